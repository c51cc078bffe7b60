"""What a token may be given: scopes and an end, neither beyond those of the token that asks for it."""

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
    """Scopes as sent, each one valid; None stands for no narrowing."""
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
    """The scopes of a token that a token makes: its own, or some of them. Raises TooNarrow for wider ones."""
    own = principal.token_scopes
    if own is None:
        return scopes
    if scopes is None:
        return sorted(f"{method} /{store}/*" for method, store in own.pairs)
    check_grant(principal, "scopes", parsed_scopes(scopes))
    return scopes


def checked_expiry(expires: Any) -> int | None:
    """Unix ms of a time to come, given so or as ISO 8601 (no zone: UTC); None for never."""
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
    """The expiry of a new token; of one that a token makes, if none is sent, that token's own."""
    latest = _latest_expiry(principal)
    return latest if expires is None and latest < FOREVER else later_expiry(principal, expires)


def later_expiry(principal: Principal, expires: Any) -> int | None:
    """An expiry that is sent. Raises InvalidEntity for one after that of the token which sends it."""
    at = checked_expiry(expires)
    if end_of(at) > _latest_expiry(principal):
        raise refuse("expires", "Must not be after the end of the token that asks for it.")
    return at


def end_of(expires: int | None) -> int:
    return FOREVER if expires is None else expires


def _latest_expiry(principal: Principal) -> int:
    return principal.expires if principal.kind == "token" else FOREVER
