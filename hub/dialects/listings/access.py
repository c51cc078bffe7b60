"""The order of checks: path, key, permission, throttle, method. Each one answers before the next is made."""

from __future__ import annotations

import re
from typing import Final

from auth.errors import Unauthenticated
from auth.keys import LISTINGS, KeyHolder
from hub.dialects.listings.context import ListingsContext
from hub.dialects.listings.cross_origin import allow_any_page, allow_page, host_of, refuse_pages
from hub.dialects.listings.errors import NoKey, NotPermitted, Throttled
from hub.http.call import Call
from hub.http.errors import NoSuchPath

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""The methods that a key of scope ``R`` may use."""

READ_ONLY: Final = "R"

_HOLDER: Final = "hub.listings.holder"
"""Scope key of the holder of the call's key. A call that is authorised again has been counted already."""
_USER_ID: Final = re.compile(r"[0-9]+")


async def check_access(context: ListingsContext, call: Call) -> KeyHolder:
    """Return the holder of the call's key. Raises NoSuchPath, Unauthenticated, NotPermitted and Throttled."""
    allow_any_page(call)
    check_path(call)
    holder = await authenticate(context, call)
    is_counted = _HOLDER in call.scope
    call.scope[_HOLDER] = holder
    check_permission(call, holder)
    if not is_counted:
        await check_throttle(context, holder)
        context.note_use(holder.principal, call)
    return holder


def holder_of(call: Call) -> KeyHolder:
    """Return the holder of the key of a call that has passed `check_access`."""
    holder: KeyHolder = call.scope[_HOLDER]
    return holder


def check_path(call: Call) -> None:
    """Raise NoSuchPath if the path names a user by something else than a number."""
    user_id = call.path.get("user_id")
    if user_id is not None and not _USER_ID.fullmatch(user_id):
        raise NoSuchPath(call.scope["path"])


async def authenticate(context: ListingsContext, call: Call) -> KeyHolder:
    header = call.header(b"authorization")
    scheme, _, credential = (header or "").strip().partition(" ")
    if scheme.lower() != "bearer":
        raise NoKey("no key")
    credential = credential.strip()
    if not credential:
        raise Unauthenticated("an empty key")
    holder = await context.resolver.resolve_key(credential, LISTINGS)
    call.caller = credential, holder.principal
    return holder


def check_permission(call: Call, holder: KeyHolder) -> None:
    """Raise NotPermitted for a page that the key does not name, a path of another user, and a write with a key that
    may only read."""
    key = holder.key
    refuse_pages(call)
    if key.scope == READ_ONLY:
        if key.origins and _page_of(call) not in key.origins:
            raise NotPermitted(f"the key {key.id} is not for this page")
        allow_page(call, key.origins)
    user_id = call.path.get("user_id")
    if user_id is not None and user_id.lstrip("0") != str(holder.number):
        raise NotPermitted(f"the key {key.id} is of another user")
    if key.scope == READ_ONLY and call.method not in SAFE:
        raise NotPermitted(f"the key {key.id} may only read")


def _page_of(call: Call) -> str:
    """Return the hostname of the page that sent the call, by its Origin header, or else by its Referer."""
    origin = call.header(b"origin")
    return host_of(call.header(b"referer") or "" if origin is None else origin)


async def check_throttle(context: ListingsContext, holder: KeyHolder) -> None:
    taken = await context.count_request(holder.key.id)
    if not taken.allowed:
        raise Throttled(taken.wait).at("MOST_REQUESTS")


async def check_registrations(context: ListingsContext, call: Call) -> None:
    """Count a call to the registration endpoints, of any method. Raises Throttled."""
    taken = await context.count_registration(call.block)
    if not taken.allowed:
        raise Throttled(taken.wait).at("MOST_REGISTRATIONS")
