"""Operations on one's own account: its sessions, one-time codes, and a forgotten password."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from auth.errors import Forbidden
from auth.principal import Principal
from hub.dialects.platform import answers
from hub.dialects.platform.entities import check_browser, entity_body, parse_json
from hub.dialects.platform.parameters import known_parameters
from hub.dialects.platform.reset_page import PAGE, POLICY
from hub.errors import BadRequest
from hub.http import Answer, Call, json_answer
from hub.services.credentials import PROOF

if TYPE_CHECKING:
    from hub.dialects.platform.context import PlatformDialect

LONGEST: Final = 1_000
"""Characters of a login, a password, a token or a code."""


async def request_reset(dialect: PlatformDialect, call: Call) -> Answer:
    """The same answer after the same time, whether there is such a login or not."""
    check_browser(dialect, call)
    [login] = await texts(dialect, call, "login")
    dialect.resets.request(login, call.address)
    return done()


async def confirm_reset(dialect: PlatformDialect, call: Call) -> Answer:
    check_browser(dialect, call)
    token, password = await texts(dialect, call, "token", "password")
    await dialect.resets.confirm(token, password)
    return done()


async def reset_page(dialect: PlatformDialect, call: Call) -> Answer:
    """The page that the mail leads to. The token is behind the `#` of its address, which browsers keep to
    themselves."""
    return Answer(PAGE, headers=[(b"content-security-policy", POLICY)], content_type=b"text/html; charset=utf-8")


async def begin_totp(dialect: PlatformDialect, call: Call, principal: Principal) -> Answer:
    known_parameters(call.parameters(), ())
    check_personal(principal)
    body = await optional_body(dialect, call, PROOF)
    password = text(body[PROOF], PROOF) if PROOF in body else None
    enrolment = await dialect.second_factors.begin(principal, password)
    return json_answer({"success": True, "secret": enrolment.secret, "url": enrolment.url})


async def confirm_totp(dialect: PlatformDialect, call: Call, principal: Principal) -> Answer:
    check_personal(principal)
    [code] = await texts(dialect, call, "code")
    codes = await dialect.second_factors.confirm(principal, code)
    return json_answer({"success": True, "codes": codes})


async def switch_off_totp(dialect: PlatformDialect, call: Call, principal: Principal) -> Answer:
    check_personal(principal)
    [code] = await texts(dialect, call, "code")
    await dialect.second_factors.switch_off(principal, code)
    return done()


async def remove_totp(dialect: PlatformDialect, call: Call, principal: Principal) -> Answer:
    """For administrators: the user has lost the app and the recovery codes."""
    known_parameters(call.parameters(), ())
    dialect.registry.authorized(principal, "users", "DELETE")
    if not principal.admin:
        raise Forbidden("only administrators switch off the one-time codes of others")
    await dialect.second_factors.remove(call.path["id"], principal)
    return done()


def check_personal(principal: Principal) -> None:
    """Raise Forbidden for a long-lived token: it stands for a program, not for its user."""
    if principal.kind == "token":
        raise Forbidden("a long-lived token does not change how its user signs in")


async def texts(dialect: PlatformDialect, call: Call, *names: str) -> list[str]:
    """The body's members of these names, each a text that is not empty. Raises BadRequest that names the one that is
    missing, or one that does not belong there."""
    known_parameters(call.parameters(), ())
    body = entity_body(await parse_json(dialect, call, await dialect.read_small(call)))
    for name in body.keys() - set(names):
        raise BadRequest(name, f"Send {' and '.join(names)} alone.")
    return [text(body.get(name), name) for name in names]


def text(value: Any, name: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST:
        raise BadRequest(name, f"Must be a string of 1 to {LONGEST} characters.")
    return value


async def optional_body(dialect: PlatformDialect, call: Call, known: str) -> dict[str, Any]:
    """The body, which may be left out and has `known` as its only member. Raises BadRequest for another one."""
    raw = await dialect.read_small(call)
    body = entity_body(await parse_json(dialect, call, raw)) if raw.strip() else {}
    for name in body:
        if name != known:
            raise BadRequest(name, f"Only {known} can be sent here.")
    return body


def done() -> Answer:
    return json_answer({"success": True})


async def end_sessions(dialect: PlatformDialect, call: Call, principal: Principal) -> Answer:
    """All of one's sessions but the one at hand end; with ``{"tokens": true}`` tokens as well."""
    known_parameters(call.parameters(), ())
    body = await optional_body(dialect, call, "tokens")
    tokens = body.get("tokens", False)
    if not isinstance(tokens, bool):
        raise BadRequest("tokens", "Must be true or false.")
    return answers.count_answer(await dialect.accounts.end_others(principal, tokens=tokens))
