"""The calls of the platform API: each reads its parameters and body, asks a service, and renders the result."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import orjson

from auth.csrf import check_same_site, read_origin
from auth.errors import Unauthenticated
from auth.principal import Principal
from hub.dialects.platform import answers
from hub.dialects.platform.conditions import check_read, expected_revisions
from hub.dialects.platform.openapi import openapi_document
from hub.dialects.platform.parameters import (
    ListParameters,
    ListRequest,
    known_parameters,
    natural,
    next_link,
    refuse_given,
)
from hub.errors import BadRequest
from hub.http import SMALL_BODY, Answer, Call, json_answer, parse_body
from hub.proxies import PREFIX, public_path
from stores.cursor import encode_cursor
from stores.errors import InvalidQuery
from stores.protocol import MOST_HISTORY_ENTRIES, IdempotencyKey
from stores.query import WHOLE, Projection
from stores.records import Entity, now_ms
from stores.tautology import is_tautology

if TYPE_CHECKING:
    from hub.dialects.platform.context import PlatformDialect

HOUR = 3_600_000
_KEY = re.compile(r"[\x21-\x7e]{1,255}\Z")


# Entities.


async def create(dialect: PlatformDialect, call: Call, principal: Principal) -> Answer:
    store = call.path["store"]
    known = known_parameters(call.parameters(), ("upsert",))
    if known:
        dialect.registry.authorized(principal, store, "PATCH")
    raw = await dialect.read_several(call)
    value = await parse_json(dialect, call, raw)
    bodies, indexed = entity_bodies(value, dialect.settings.max_items), isinstance(value, list)
    key = await idempotency_key(dialect, call, principal, raw)
    if "upsert" in known:
        made = await dialect.entities.upsert(principal, store, known["upsert"], bodies, key, indexed=indexed)
    else:
        made = await dialect.entities.create(principal, store, bodies, key, indexed=indexed)
    if indexed:
        return answers.entities_answer([text for text, _ in made], dialect.settings.stream_timeout)
    return answers.entity_answer(*made[0])


async def get(dialect: PlatformDialect, call: Call, principal: Principal) -> Answer:
    projection = read_projection(dialect, call, principal)
    text, rev = await dialect.entities.get(principal, call.path["store"], call.path["id"], projection)
    check_read(call, rev)
    return answers.entity_answer(text, rev)


async def find(dialect: PlatformDialect, call: Call, principal: Principal) -> Answer:
    pairs = call.parameters()
    request = read_list(dialect, call, principal, pairs)
    refuse_given(request, ("upsert", "all"), "does not belong to a list")
    if request.meta:
        return await summarize(dialect, call, principal, request)
    if request.since is not None:
        return await changes_since(dialect, call, principal, request)
    listing = await dialect.entities.find(principal, call.path["store"], request.query, request.projection)
    headers = [answers.position_header(listing.position)]
    if listing.next is not None:
        cursor = encode_cursor(listing.next, request.query.sort)
        headers.append((b"link", next_link(public_path(call.scope), pairs, cursor).encode("ascii")))
    return Answer(listing.body, headers=headers, timeout=dialect.settings.stream_timeout)


async def summarize(dialect: PlatformDialect, call: Call, principal: Principal, request: ListRequest) -> Answer:
    refuse_given(request, ("offset", "limit", "after", "since", "sort"), "cannot be used together with meta")
    found = await dialect.entities.summarize(principal, call.path["store"], request.where, request.projection)
    return answers.summary_answer(found.count, found.first, found.last, found.position)


async def changes_since(dialect: PlatformDialect, call: Call, principal: Principal, request: ListRequest) -> Answer:
    refuse_given(request, ("offset", "after", "sort"), "cannot be used together with since")
    most = dialect.settings.delta_changes
    limit = most if request.limit is None else max(1, min(request.limit, most))
    delta = await dialect.delta.since(
        principal, call.path["store"], request.since or "", request.where, request.projection, limit
    )
    return answers.delta_answer(delta)


async def change(dialect: PlatformDialect, call: Call, principal: Principal) -> Answer:
    known_parameters(call.parameters(), ())
    body = entity_body(await read_json(dialect, call))
    revs = expected_revisions(call)
    text, rev = await dialect.entities.change(principal, call.path["store"], call.path["id"], body, revs)
    return answers.entity_answer(text, rev)


async def replace(dialect: PlatformDialect, call: Call, principal: Principal) -> Answer:
    known_parameters(call.parameters(), ())
    body = entity_body(await read_json(dialect, call))
    revs = expected_revisions(call)
    text, rev = await dialect.entities.replace(principal, call.path["store"], call.path["id"], body, revs)
    return answers.entity_answer(text, rev)


async def delete(dialect: PlatformDialect, call: Call, principal: Principal) -> Answer:
    known_parameters(call.parameters(), ())
    revs = expected_revisions(call)
    text, rev = await dialect.entities.delete(principal, call.path["store"], call.path["id"], revs)
    return answers.entity_answer(text, rev)


async def change_matches(dialect: PlatformDialect, call: Call, principal: Principal) -> Answer:
    request = read_bulk(dialect, call, principal)
    body = entity_body(await read_json(dialect, call))
    count = await dialect.entities.change_matches(principal, call.path["store"], request.where, body)
    return answers.count_answer(count)


async def delete_matches(dialect: PlatformDialect, call: Call, principal: Principal) -> Answer:
    request = read_bulk(dialect, call, principal)
    count = await dialect.entities.delete_matches(principal, call.path["store"], request.where)
    return answers.count_answer(count)


async def share(dialect: PlatformDialect, call: Call, principal: Principal) -> Answer:
    known_parameters(call.parameters(), ())
    body = entity_body(await read_json(dialect, call))
    for name in body:
        if name != "access":
            raise BadRequest(name, "Send the access list alone.")
    users = body.get("access")
    revs = expected_revisions(call)
    text, rev = await dialect.entities.share(principal, call.path["store"], call.path["id"], users, revs)
    return answers.entity_answer(text, rev)


async def history(dialect: PlatformDialect, call: Call, principal: Principal) -> Answer:
    pairs = call.parameters()
    known = known_parameters(pairs, ("limit", "after"))
    limit = natural(known, "limit")
    limit = MOST_HISTORY_ENTRIES if limit is None else max(1, min(limit, MOST_HISTORY_ENTRIES))
    page = await dialect.entities.history(principal, call.path["store"], call.path["id"], known.get("after"), limit)
    link = (
        [] if page.next is None else [(b"link", next_link(public_path(call.scope), pairs, page.next).encode("ascii"))]
    )
    # In a thread: it may be megabytes.
    return Answer(await asyncio.to_thread(answers.history_text, page.entries), headers=link)


# Signing in and out.


async def sign_in(dialect: PlatformDialect, call: Call) -> Answer:
    check_browser(dialect, call)  # or another site could sign its visitors in as somebody else
    given = await credentials(dialect, call)
    issued = await dialect.accounts.sign_in(*given, "session", call.address, call.header(b"user-agent") or "")
    foreign = from_trusted(dialect, call)
    cookie = answers.session_cookie(call, issued.credential, issued.expires_at, foreign=foreign)
    return json_answer({"sucess": True, "success": True}, headers=[cookie])


async def issue_token(dialect: PlatformDialect, call: Call) -> Answer:
    given = await credentials(dialect, call)
    issued = await dialect.accounts.sign_in(*given, "access", call.address, call.header(b"user-agent") or "")
    return json_answer(
        {
            "sucess": True,
            "success": True,
            "type": "access",
            "token": issued.credential,
            "issuedAt": issued.issued_at,
            "expiresAt": issued.expires_at,
        }
    )


async def sign_out(dialect: PlatformDialect, call: Call, principal: Principal) -> Answer:
    known_parameters(call.parameters(), ())
    await dialect.accounts.sign_out(principal)
    return json_answer({"sucess": True, "success": True}, headers=answers.forgotten_cookies(call))


async def who_am_i(dialect: PlatformDialect, call: Call, principal: Principal) -> Answer:
    known_parameters(call.parameters(), ())
    scopes = principal.token_scopes
    account = {
        "success": True,
        "_id": principal.user_id,
        "login": principal.login,
        "group": principal.group,
        "roles": principal.roles,
        "admin": principal.admin,
        "type": principal.kind,
        "scopes": None if scopes is None else sorted(f"{method} /{store}" for method, store in scopes.pairs),
        "expiresAt": principal.expires if principal.expires < 2**53 else None,
    }
    return json_answer(account)


async def describe_api(dialect: PlatformDialect, call: Call) -> Answer:
    """Without credentials the document says how to get some, and what every store has in common."""
    known_parameters(call.parameters(), ())
    asked = call.bearer() is not None or call.session() is not None
    principal = await dialect.principal(call) if asked else None
    prefix = call.scope.get(PREFIX, "")
    if principal is not None:
        # With hundreds of stores it takes a while: not in the loop.
        return Answer(await asyncio.to_thread(lambda: orjson.dumps(openapi_document(dialect, principal, prefix))))
    if dialect.public_document[0] != prefix or not dialect.public_document[1]:
        dialect.public_document = prefix, orjson.dumps(openapi_document(dialect, None, prefix))
    return Answer(dialect.public_document[1])


# The parts of the above.


def read_list(dialect: PlatformDialect, call: Call, principal: Principal, pairs: list[tuple[str, str]]) -> ListRequest:
    view = dialect.registry.authorized(principal, call.path["store"], call.method)
    return ListParameters(view, pairs, dialect.filter_limits, dialect.settings.max_items).read()


def read_bulk(dialect: PlatformDialect, call: Call, principal: Principal) -> ListRequest:
    """The matches of a bulk change. Without a condition only ``all=true`` means everything: a filter that was
    forgotten, or came out empty, does not."""
    pairs = call.parameters()
    request = read_list(dialect, call, principal, pairs)
    paging = ("offset", "limit", "after", "sort", "only", "meta", "since", "upsert")
    refuse_given(request, paging, "does not belong to a bulk change")
    if request.all and len(pairs) > 1:
        raise InvalidQuery("all", "all=true means every visible entity: it takes no filter beside it")
    for name, value in pairs:
        if name.endswith("[nin]") and not value:
            raise InvalidQuery(name, f"{name} has no value, so it excludes nothing")
    if not request.all and is_tautology(request.where):
        raise InvalidQuery("filter", "a bulk change needs a condition; all=true stands for every visible entity")
    return request


def read_projection(dialect: PlatformDialect, call: Call, principal: Principal) -> Projection:
    pairs = call.parameters()
    if not pairs:
        return WHOLE
    known_parameters(pairs, ("only",))
    view = dialect.registry.authorized(principal, call.path["store"])
    return ListParameters(view, pairs, dialect.filter_limits, 1).projection()


async def read_json(dialect: PlatformDialect, call: Call) -> Any:
    return await parse_json(dialect, call, await dialect.read(call))


async def parse_json(dialect: PlatformDialect, call: Call, raw: bytes) -> Any:
    """The JSON value of a body. The Content-Type is not asked (curl calls whatever it sends a form), but a body that
    is not JSON and says so is told what is wanted."""
    try:
        return await parse_body(raw, dialect.body_bounds)
    except BadRequest:
        kind = (call.header(b"content-type") or "").partition(";")[0].strip().lower()
        if not raw or kind == "application/json" or kind.endswith("+json"):
            raise
        said = kind or "of no content type"
        raise BadRequest("body", f"The body must be JSON (application/json); this one is {said}.") from None


def entity_body(value: Any) -> Entity:
    if not isinstance(value, dict):
        raise BadRequest("body", "The body must be a JSON object.")
    return value


def entity_bodies(value: Any, most: int) -> list[Entity]:
    """One entity, or an array of them."""
    if not isinstance(value, list):
        return [entity_body(value)]
    if not 0 < len(value) <= most:
        raise BadRequest("body", f"An array holds 1 to {most} entities.")
    for position, item in enumerate(value):
        if not isinstance(item, dict):
            raise BadRequest(str(position), "Must be a JSON object.")
    return value


async def idempotency_key(
    dialect: PlatformDialect, call: Call, principal: Principal, body: bytes
) -> IdempotencyKey | None:
    """The request's key, its user's own; what it must be the same as is everything that decides the outcome."""
    header = call.header(b"idempotency-key")
    if header is None:
        return None
    if not _KEY.match(header):
        raise BadRequest("Idempotency-Key", "Takes 1 to 255 visible ASCII characters.")
    request = b"\0".join((call.method.encode(), call.scope["path"].encode(), call.scope["query_string"], body))
    expires = now_ms() + dialect.settings.idempotency_hours * HOUR
    digest = dialect.key.digest
    if len(request) > SMALL_BODY:
        fingerprint = await asyncio.to_thread(digest, "idempotency", request)
    else:
        fingerprint = digest("idempotency", request)
    return IdempotencyKey(f"{principal.user_id}:{header}", fingerprint, expires)


async def credentials(dialect: PlatformDialect, call: Call) -> tuple[str, str, str | None]:
    """Login, password and one-time code; None without a code."""
    known_parameters(call.parameters(), ())
    body = entity_body(await parse_json(dialect, call, await dialect.read_small(call)))
    found = []
    for name in ("login", "password"):
        value = body.get(name)
        if not isinstance(value, str) or not 0 < len(value) <= 1_000:
            raise BadRequest(name, "Must be a string that is not empty.")
        found.append(value)
    code = body.get("code")
    if code is not None and (not isinstance(code, str) or len(code) > 1_000):
        raise BadRequest("code", "Must be a string.")
    if "\0" in found[0]:
        raise Unauthenticated("no such user")
    return found[0], found[1], code


def check_browser(dialect: PlatformDialect, call: Call) -> None:
    origin, site = call.header(b"origin"), call.header(b"sec-fetch-site")
    check_same_site(call.method, call.scheme, call.host, origin, site, dialect.origins.trusted)


def from_trusted(dialect: PlatformDialect, call: Call) -> bool:
    """Whether the call comes from a page of a trusted origin on another site, as far as the browser says."""
    page = read_origin(call.header(b"origin"))
    foreign = page is not None and dialect.origins.is_foreign(page, call.scheme, call.host)
    return foreign and call.header(b"sec-fetch-site") not in ("same-site", "same-origin")
