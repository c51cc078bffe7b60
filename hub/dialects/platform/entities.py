"""Operations on entities: each reads its parameters and body, calls a service, and renders the result."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from auth.errors import Explained
from auth.principal import Principal
from hub.dialects.platform import answers
from hub.dialects.platform.bodies import entity_bodies, entity_body, parse_json, read_json
from hub.dialects.platform.conditions import check_expanded_read, check_read, expected_revisions
from hub.dialects.platform.context import PlatformContext
from hub.dialects.platform.parameters import (
    ListParameters,
    ListRequest,
    Pairs,
    known_parameters,
    natural,
    next_link,
    next_list_link,
    refuse_beside_expand,
    refuse_given,
)
from hub.http.answer import Answer
from hub.http.body import SMALL_BODY
from hub.http.call import Call
from hub.http.errors import BadRequest
from hub.http.proxies import public_path
from hub.services.expansion_plan import Expand
from stores.aggregation import Aggregation
from stores.cursor import encode_cursor
from stores.errors import InvalidQuery
from stores.operators import Operators
from stores.parse_operators import has_operators, parse_change, parse_changes
from stores.protocol import MOST_HISTORY_ENTRIES, IdempotencyKey, Revisions
from stores.query import WHOLE, Projection
from stores.records import Entity, Json, now_ms
from stores.tautology import is_tautology
from stores.threads import in_thread

HOUR = 3_600_000
_KEY = re.compile(r"[\x21-\x7e]{1,255}\Z")

WriteToOne = Callable[[Entity, Revisions | None], Awaitable[tuple[bytes, int]]]
"""Writes to the entity that a call names. Takes the body, and the revisions that it accepts."""


async def create(context: PlatformContext, call: Call, principal: Principal) -> Answer:
    store = call.path["store"]
    known = known_parameters(call.parameters(), ("upsert", "keep"))
    if "upsert" in known:
        context.registry.authorized(principal, store, "PATCH")
    keeps = keeps_serials(known, principal)
    raw = await context.read_several(call)
    value = await parse_json(context, call, raw)
    bodies, indexed = entity_bodies(value, context.settings.max_items), isinstance(value, list)
    key = await idempotency_key(context, call, principal, raw)
    if "upsert" in known:
        made = await _upsert(context, principal, store, known["upsert"], bodies, key, indexed, keeps)
    else:
        made = await context.entities.create(principal, store, bodies, key, indexed=indexed, keeps_serials=keeps)
    if indexed:
        return answers.array_answer(made, context.settings.stream_timeout)
    return answers.written_answer(*made[0])


async def _upsert(
    context: PlatformContext,
    principal: Principal,
    store: str,
    path: str,
    bodies: list[Entity],
    key: IdempotencyKey | None,
    indexed: bool,
    keeps: bool,
) -> list[tuple[bytes, int]]:
    operators: list[Operators] = []
    if any(map(has_operators, bodies)):
        context.registry.authorized(principal, store, "POST")  # before anything is said about the bodies
        bodies, operators = await parse_changes(bodies, indexed)
    return await context.entities.upsert(
        principal, store, path, bodies, key, operators=operators, indexed=indexed, keeps_serials=keeps
    )


async def get(context: PlatformContext, call: Call, principal: Principal) -> Answer:
    projection, expand = read_projection(context, call, principal)
    store, id = call.path["store"], call.path["id"]
    if expand is not None:
        text, rev = await context.expansions.get(principal, store, id, expand)
        check_expanded_read(call, rev)
        return answers.expanded_answer(text, context.settings.stream_timeout)
    text, rev = await context.entities.get(principal, store, id, projection)
    check_read(call, rev)
    return answers.entity_answer(text, rev)


async def find(context: PlatformContext, call: Call, principal: Principal) -> Answer:
    pairs = call.parameters()
    request = read_list(context, call, principal, pairs)
    refuse_given(request, ("upsert", "all"), "does not belong to a list")
    if request.aggregation is not None:
        return await aggregate(context, call, principal, request, request.aggregation)
    refuse_beside_expand(request)
    if request.meta:
        return await summarize(context, call, principal, request)
    if request.since is not None:
        return await changes_since(context, call, principal, request)
    store, timeout = call.path["store"], context.settings.stream_timeout
    if request.expand is not None:
        page = await context.expansions.find(principal, store, request.query, request.expand)
        headers = list_headers(call, pairs, request, page.position, page.next)
        return answers.expanded_list_answer(page.body, headers, timeout)
    listing = await context.entities.find(principal, store, request.query, request.projection)
    headers = list_headers(call, pairs, request, listing.position, listing.next)
    return Answer(listing.body, headers=headers, timeout=timeout)


def list_headers(
    call: Call, pairs: Pairs, request: ListRequest, position: str, following: tuple[Json, ...] | None
) -> list[tuple[bytes, bytes]]:
    """Return the headers of a page, with the link to the next one if there is one."""
    headers = [answers.position_header(position)]
    if following is not None:
        cursor = encode_cursor(following, request.query.sort)
        link = next_list_link(public_path(call.scope), pairs, request.query, cursor)
        headers.append((b"link", link.encode("ascii")))
    return headers


async def summarize(context: PlatformContext, call: Call, principal: Principal, request: ListRequest) -> Answer:
    refuse_given(request, ("offset", "limit", "after", "since", "sort"), "cannot be used together with meta")
    found = await context.entities.summarize(principal, call.path["store"], request.where, request.projection)
    return answers.summary_answer(found.count, found.first, found.last, found.position)


async def aggregate(
    context: PlatformContext, call: Call, principal: Principal, request: ListRequest, aggregation: Aggregation
) -> Answer:
    not_of_groups = ("offset", "after", "since", "only", "meta", "expand")
    refuse_given(request, not_of_groups, "cannot be used together with aggregate")
    # It may read the whole store, so one whose client has gone is given up.
    work = context.entities.aggregate(principal, call.path["store"], request.where, aggregation)
    found = await call.while_connected(work)
    # In a thread: the groups may have megabytes.
    text = await in_thread(answers.groups_text, aggregation, found)
    return Answer(text, headers=[answers.position_header(found.position)])


async def changes_since(context: PlatformContext, call: Call, principal: Principal, request: ListRequest) -> Answer:
    refuse_given(request, ("offset", "after", "sort"), "cannot be used together with since")
    most = context.settings.delta_changes
    limit = most if request.limit is None else min(request.limit, most)
    delta = await context.delta.since(
        principal,
        call.path["store"],
        request.since or "",
        request.where,
        request.projection,
        limit,
        searched=request.searched,
    )
    return answers.delta_answer(delta)


async def change(context: PlatformContext, call: Call, principal: Principal) -> Answer:
    store, id = call.path["store"], call.path["id"]

    async def write(body: Entity, revs: Revisions | None) -> tuple[bytes, int]:
        if not has_operators(body):
            return await context.entities.change(principal, store, id, body, revs)
        context.registry.authorized(principal, store, "PATCH")  # before anything is said about the body
        fields, operators = parse_change(body)
        return await context.entities.change(principal, store, id, fields, revs, operators)

    return await _write_to_one(write, context, call)


async def replace(context: PlatformContext, call: Call, principal: Principal) -> Answer:
    store, id = call.path["store"], call.path["id"]
    return await _write_to_one(partial(context.entities.replace, principal, store, id), context, call)


async def _write_to_one(write: WriteToOne, context: PlatformContext, call: Call) -> Answer:
    known_parameters(call.parameters(), ())
    body = entity_body(await read_json(context, call))
    text, rev = await write(body, expected_revisions(call))
    return answers.written_answer(text, rev)


async def delete(context: PlatformContext, call: Call, principal: Principal) -> Answer:
    known_parameters(call.parameters(), ())
    revs = expected_revisions(call)
    text, rev = await context.entities.delete(principal, call.path["store"], call.path["id"], revs)
    return answers.written_answer(text, rev)


async def change_matches(context: PlatformContext, call: Call, principal: Principal) -> Answer:
    request = read_bulk(context, call, principal)
    body = entity_body(await read_json(context, call))
    fields, operators = parse_change(body)
    change = context.entities.change_matches(principal, call.path["store"], request.where, fields, operators)
    # Many changes may wait for one another, so one whose client has gone is given up.
    count = await call.while_connected(change)
    return answers.count_answer(count)


async def delete_matches(context: PlatformContext, call: Call, principal: Principal) -> Answer:
    request = read_bulk(context, call, principal)
    count = await call.while_connected(context.entities.delete_matches(principal, call.path["store"], request.where))
    return answers.count_answer(count)


async def share(context: PlatformContext, call: Call, principal: Principal) -> Answer:
    known_parameters(call.parameters(), ())
    body = entity_body(await read_json(context, call))
    for name in body:
        if name != "access":
            raise BadRequest(name, "Send the access list alone.")
    users = body.get("access")
    revs = expected_revisions(call)
    text, rev = await context.entities.share(principal, call.path["store"], call.path["id"], users, revs)
    return answers.written_answer(text, rev)


async def history(context: PlatformContext, call: Call, principal: Principal) -> Answer:
    pairs = call.parameters()
    known = known_parameters(pairs, ("limit", "after"))
    limit = natural(known, "limit")
    limit = MOST_HISTORY_ENTRIES if limit is None else max(1, min(limit, MOST_HISTORY_ENTRIES))
    page = await context.entities.history(principal, call.path["store"], call.path["id"], known.get("after"), limit)
    link = (
        [] if page.next is None else [(b"link", next_link(public_path(call.scope), pairs, page.next).encode("ascii"))]
    )
    # In a thread: the history may have megabytes.
    return Answer(await in_thread(answers.history_text, page.entries), headers=link)


# Helpers.


def read_list(context: PlatformContext, call: Call, principal: Principal, pairs: list[tuple[str, str]]) -> ListRequest:
    view = context.registry.authorized(principal, call.path["store"], call.method)

    def parse() -> ListRequest:
        return ListParameters(view, pairs, context.filter_limits, context.settings.max_items).read()

    return context.known_requests.find(view, call.scope["query_string"], parse)


def read_bulk(context: PlatformContext, call: Call, principal: Principal) -> ListRequest:
    """Return the request of a bulk change. Only ``all=true`` selects everything: a missing or empty filter is
    refused."""
    pairs = call.parameters()
    request = read_list(context, call, principal, pairs)
    paging = ("offset", "limit", "after", "sort", "only", "meta", "since", "upsert", "expand", "aggregate")
    refuse_given(request, paging, "does not belong to a bulk change")
    if request.all and len(pairs) > 1:
        raise InvalidQuery("all", "all=true means every visible entity: it takes no filter beside it")
    for name, value in pairs:
        if name.endswith("[nin]") and not value:
            raise InvalidQuery(name, f"{name} has no value, so it excludes nothing")
    definition = context.registry.authorized(principal, call.path["store"], call.method).definition
    if not request.all and is_tautology(request.where, definition):
        raise InvalidQuery("filter", "a bulk change needs a condition; all=true stands for every visible entity")
    return request


def read_projection(context: PlatformContext, call: Call, principal: Principal) -> tuple[Projection, Expand | None]:
    """Return what to show of an entity; with `expand`, that says all of it."""
    pairs = call.parameters()
    if not pairs:
        return WHOLE, None
    known_parameters(pairs, ("only", "expand"))
    view = context.registry.authorized(principal, call.path["store"])
    parameters = ListParameters(view, pairs, context.filter_limits, 1)
    expand = parameters.expand()
    return (parameters.projection(), None) if expand is None else (WHOLE, expand)


def keeps_serials(known: Mapping[str, str], principal: Principal) -> bool:
    """Return whether new entities keep the serial numbers in their bodies, as ``keep=serials`` says. Raises Explained
    for a caller who is no administrator: the numbers of others would go on above them."""
    if "keep" not in known:
        return False
    if known["keep"] != "serials":
        raise InvalidQuery("keep", "keep takes serials")
    if not principal.admin:
        raise Explained("keep", "Only an administrator can keep serial numbers.")
    return True


async def idempotency_key(
    context: PlatformContext, call: Call, principal: Principal, body: bytes
) -> IdempotencyKey | None:
    """Return the request's idempotency key, which is private to its user. A repetition must equal the request in
    method, path, query and body. Raises BadRequest."""
    header = call.header(b"idempotency-key")
    if header is None:
        return None
    if not _KEY.match(header):
        raise BadRequest("Idempotency-Key", "Takes 1 to 255 visible ASCII characters.")
    head = b"\0".join((call.method.encode(), call.scope["path"].encode(), call.scope["query_string"], b""))
    expires = now_ms() + context.settings.idempotency_hours * HOUR
    digest = context.key.digest
    # Head and body are hashed one after the other: to join them would copy sixty megabytes on the loop.
    if len(body) > SMALL_BODY:
        fingerprint = await in_thread(digest, "idempotency", head, body)
    else:
        fingerprint = digest("idempotency", head, body)
    return IdempotencyKey(f"{principal.user_id}:{header}", fingerprint, expires)
