"""What a principal may do = what it can see × what its scopes allow.

There is one visibility predicate, and it is part of the query tree, so get, list, count, search, bulk changes, export
and live events cannot disagree.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

from auth.errors import Forbidden
from auth.principal import Principal
from stores.query import EVERYTHING, Equal, Filter, In, Or
from stores.schema import StoreDefinition


def visible_to(principal: Principal) -> Filter:
    """True of the entities that the principal owns, is on the access list of, or shares a group with."""
    return EVERYTHING if principal.admin else _shared_with(principal.user_id, principal.groups)


@lru_cache(maxsize=10_000)
def _shared_with(me: str, groups: tuple[str, ...]) -> Filter:
    choices: tuple[Filter, ...] = (Equal(("owner",), me), Equal(("access",), me))
    if groups:
        choices += (In(("group",), groups), In(("branch",), groups))
    return Or(choices)


_Own = tuple[frozenset[str], Callable[[str], Filter]]

OWN: Final[dict[str, _Own]] = {
    "users": (frozenset({"GET", "HEAD", "PATCH"}), lambda me: Equal(("_id",), me)),
    "tokens": (frozenset({"GET", "HEAD", "POST", "PATCH", "DELETE"}), lambda me: Equal(("owner",), me)),
    "sessions": (frozenset({"GET", "HEAD", "DELETE"}), lambda me: Equal(("owner",), me)),
    "signins": (frozenset({"GET", "HEAD"}), lambda me: Equal(("owner",), me)),
}
"""What everybody may do in administrative stores, with entities of their own: methods and which are one's own."""


def authorize(principal: Principal, definition: StoreDefinition, method: str) -> None:
    """Raise Forbidden unless the principal's scopes allow the method on the store."""
    if definition.administrative or not principal.may(method, definition.name):
        sight(principal, definition, method)


def may_read(principal: Principal, definition: StoreDefinition) -> bool:
    """Whether the scopes allow reading the store."""
    try:
        authorize(principal, definition, "GET")
    except Forbidden:
        return False
    return True


def sight(principal: Principal, definition: StoreDefinition, method: str) -> Filter:
    """The entities of a store that the principal may use `method` on. Raises Forbidden when its scopes do not."""
    store = definition.name
    if not definition.administrative:
        if principal.may(method, store):
            return visible_to(principal)
    elif principal.may_administer(method, store):
        return visible_to(principal)
    elif store in OWN and principal.token_may_administer(method, store):
        methods, own = OWN[store]
        if method in methods:
            return own(principal.user_id)
    raise Forbidden(f"{principal.login} may not {method} {store}")
