"""Operations on the caller's own account: sign-in and sign-out, sessions, one-time codes, forgotten passwords."""

from __future__ import annotations

from typing import Any, Final

from auth.errors import Explained, Unauthenticated
from auth.principal import Principal
from hub.dialects.browser import check_browser, from_trusted
from hub.dialects.platform import answers
from hub.dialects.platform.bodies import entity_body, parse_json
from hub.dialects.platform.context import PlatformContext
from hub.dialects.platform.parameters import known_parameters
from hub.dialects.platform.reset_page import PAGE, POLICY
from hub.http.answer import Answer, json_answer
from hub.http.call import Call
from hub.http.errors import BadRequest
from hub.services.credentials import PROOF

LONGEST: Final = 1_000
"""Largest number of characters of a login, password, token or code."""

SIGNED: Final = {"sucess": True, "success": True}
"""Both spellings: the first clients read the former."""


# Signing in and out.


async def sign_in(context: PlatformContext, call: Call) -> Answer:
    check_browser(call, context.origins)  # prevents another site from signing its visitors in to another account
    given = await credentials(context, call)
    issued = await context.accounts.sign_in(*given, "session", call.address, call.header(b"user-agent") or "")
    foreign = from_trusted(call, context.origins)
    cookie = answers.session_cookie(call, issued.credential, issued.expires_at, foreign=foreign)
    return json_answer(SIGNED, headers=[cookie])


async def issue_token(context: PlatformContext, call: Call) -> Answer:
    given = await credentials(context, call)
    issued = await context.accounts.sign_in(*given, "access", call.address, call.header(b"user-agent") or "")
    return json_answer(
        {
            **SIGNED,
            "type": "access",
            "token": issued.credential,
            "issuedAt": issued.issued_at,
            "expiresAt": issued.expires_at,
        }
    )


async def sign_out(context: PlatformContext, call: Call, principal: Principal) -> Answer:
    known_parameters(call.parameters(), ())
    await context.accounts.sign_out(principal)
    return json_answer(SIGNED, headers=answers.forgotten_cookies(call))


async def who_am_i(context: PlatformContext, call: Call, principal: Principal) -> Answer:
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


async def credentials(context: PlatformContext, call: Call) -> tuple[str, str, str | None]:
    """Return login, password and one-time code, or None without a code. Raises BadRequest and Unauthenticated."""
    known_parameters(call.parameters(), ())
    body = await small_body(context, call)
    login, password = (text(body.get(name), name) for name in ("login", "password"))
    code = body.get("code")
    if code is not None and (not isinstance(code, str) or len(code) > LONGEST):
        raise BadRequest("code", f"Must be a string of at most {LONGEST} characters.")
    if "\0" in login:
        raise Unauthenticated("no such user")
    return login, password, code


# A forgotten password.


async def request_reset(context: PlatformContext, call: Call) -> Answer:
    """Request a password reset. The answer and its timing do not reveal whether the login exists."""
    check_browser(call, context.origins)
    [login] = await texts(context, call, "login")
    context.resets.request(login, call.address)
    return done()


async def confirm_reset(context: PlatformContext, call: Call) -> Answer:
    check_browser(call, context.origins)
    token, password = await texts(context, call, "token", "password")
    await context.resets.confirm(token, password)
    return done()


async def reset_page(context: PlatformContext, call: Call) -> Answer:
    """Return the page that the mail links to. The token follows the `#` of the address, which browsers do not send."""
    return Answer(PAGE, headers=[(b"content-security-policy", POLICY)], content_type=b"text/html; charset=utf-8")


async def begin_totp(context: PlatformContext, call: Call, principal: Principal) -> Answer:
    known_parameters(call.parameters(), ())
    check_personal(principal)
    body = await optional_body(context, call, PROOF)
    password = text(body[PROOF], PROOF) if PROOF in body else None
    enrolment = await context.second_factors.begin(principal, password)
    return json_answer({"success": True, "secret": enrolment.secret, "url": enrolment.url})


async def confirm_totp(context: PlatformContext, call: Call, principal: Principal) -> Answer:
    check_personal(principal)
    [code] = await texts(context, call, "code")
    codes = await context.second_factors.confirm(principal, code)
    return json_answer({"success": True, "codes": codes})


async def switch_off_totp(context: PlatformContext, call: Call, principal: Principal) -> Answer:
    check_personal(principal)
    [code] = await texts(context, call, "code")
    await context.second_factors.switch_off(principal, code)
    return done()


async def remove_totp(context: PlatformContext, call: Call, principal: Principal) -> Answer:
    """Switch off a user's one-time codes. For administrators, if the user has lost the app and the recovery codes."""
    known_parameters(call.parameters(), ())
    context.registry.authorized(principal, "users", "DELETE")
    if not principal.admin:
        raise Explained("_id", "Only an administrator can switch off the one-time codes of another user.")
    await context.second_factors.remove(call.path["id"], principal)
    return done()


def check_personal(principal: Principal) -> None:
    """Raise Explained for a long-lived token: it represents a program, not its user."""
    if principal.kind == "token":
        raise Explained("Authorization", "A long-lived token cannot change how its user signs in: sign in as the user.")


async def texts(context: PlatformContext, call: Call, *names: str) -> list[str]:
    """Return the body's members `names`, each a non-empty string. Raises BadRequest that names a missing or unexpected
    member."""
    known_parameters(call.parameters(), ())
    body = await small_body(context, call)
    for name in body.keys() - set(names):
        raise BadRequest(name, f"Send {' and '.join(names)} alone.")
    return [text(body.get(name), name) for name in names]


async def small_body(context: PlatformContext, call: Call) -> dict[str, Any]:
    """Return the members of the body; an empty body has none."""
    raw = await context.read_small(call)
    return entity_body(await parse_json(context, call, raw)) if raw.strip() else {}


def text(value: Any, name: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST:
        raise BadRequest(name, f"Must be a string of 1 to {LONGEST} characters.")
    return value


async def optional_body(context: PlatformContext, call: Call, known: str) -> dict[str, Any]:
    """Return the body, which is optional and may have only the member `known`. Raises BadRequest for any other
    member."""
    body = await small_body(context, call)
    for name in body:
        if name != known:
            raise BadRequest(name, f"Only {known} can be sent here.")
    return body


def done() -> Answer:
    return json_answer({"success": True})


async def end_sessions(context: PlatformContext, call: Call, principal: Principal) -> Answer:
    """End all of the caller's sessions except the current one; with ``{"tokens": true}``, tokens as well. Raises
    BadRequest."""
    known_parameters(call.parameters(), ())
    body = await optional_body(context, call, "tokens")
    tokens = body.get("tokens", False)
    if not isinstance(tokens, bool):
        raise BadRequest("tokens", "Must be true or false.")
    return answers.count_answer(await context.accounts.end_others(principal, tokens=tokens))
