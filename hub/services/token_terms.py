"""The scopes and expiry of tokens. Neither may exceed those of the token that makes the request."""

from __future__ import annotations

from typing import Any

from auth.delegation import check_grant
from auth.principal import Principal
from auth.resolver import FOREVER, parsed_scopes
from auth.scopes import BadScope, parse_scope
from hub.services.credentials import refuse
from hub.services.times import parse_time
from stores.records import now_ms


def checked_scopes(scopes: Any) -> list[str] | None:
    """Return the scopes as sent, after checking each. None means that the token is not narrowed."""
    if scopes is None:
        return None
    if not isinstance(scopes, list) or len(scopes) > 1_000 or not all(isinstance(s, str) for s in scopes):
        raise refuse("scopes", "Must be a list of scopes, such as 'GET /readings/*'.")
    for scope in scopes:
        try:
            parse_scope(scope)
        except BadScope as error:
            raise refuse("scopes", str(error)) from None
    return scopes


def narrowed(principal: Principal, scopes: list[str] | None) -> list[str] | None:
    """Return the scopes for a new token: those requested, or by default those of the caller's token. Raises TooNarrow
    if they exceed the caller's token."""
    own = principal.token_scopes
    if own is None:
        return scopes
    if scopes is None:
        return sorted(f"{method} /{store}/*" for method, store in own.pairs)
    check_grant(principal, "scopes", parsed_scopes(scopes))
    return scopes


def checked_expiry(expires: Any) -> int | None:
    """Return Unix ms of a future time, given as Unix ms or ISO 8601 (UTC if it has no zone); None means never."""
    if expires is None:
        return None
    try:
        at = parse_time(expires)
    except (ValueError, OverflowError):
        raise refuse("expires", "Must be Unix milliseconds or an ISO 8601 time.") from None
    if at <= now_ms():
        raise refuse("expires", "Must be a time to come.")
    return at


def first_expiry(principal: Principal, expires: Any) -> int | None:
    """Return the expiry of a new token. If the caller is a token that expires, its own expiry is the default."""
    latest = _latest_expiry(principal)
    return latest if expires is None and latest < FOREVER else later_expiry(principal, expires)


def later_expiry(principal: Principal, expires: Any) -> int | None:
    """Return an expiry as sent. Raises InvalidEntity if it is later than that of the token that makes the request."""
    at = checked_expiry(expires)
    check_end(principal, at)
    return at


def check_end(principal: Principal, expires: int | None) -> None:
    """Raise InvalidEntity for what a token would let open for longer than it is valid itself."""
    if end_of(expires) > _latest_expiry(principal):
        raise refuse("expires", "Must not be after the end of the token that asks for it.")


def end_of(expires: int | None) -> int:
    return FOREVER if expires is None else expires


def _latest_expiry(principal: Principal) -> int:
    return principal.expires if principal.kind == "token" else FOREVER
