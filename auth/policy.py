"""Authorization: visibility, scopes and grants combined into one `View` of a store for a principal.

There is one visibility predicate, and it is part of the query tree, so get, list, count, search, bulk changes, export
and live events cannot disagree.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Annotated, Final

from auth.errors import Forbidden
from auth.grants import GRANTED_STORES, Grant, grants_of
from auth.principal import Principal
from auth.purposes import is_reference, owners_may, reserved_fields
from auth.view import View
from stores.bounds import Limit
from stores.canonical import canonical_text, tree_of
from stores.query import EVERYTHING, Equal, Filter, In, Or
from stores.schema import StoreDefinition

MOST_VIEWS: Annotated[int, Limit("user", "views", "all go, and are made again")] = 64
"""Maximum views that are cached for one principal."""

DIGEST_LENGTH: Final = 10


def authorize(principal: Principal, definition: StoreDefinition, method: str) -> View:
    """Return the principal's view of a store for `method`.

    Raises Forbidden if neither a scope nor a grant allows it.
    """
    known = principal.views.get((definition.name, method))
    view = known[1] if known is not None and known[0] is definition else view_of(principal, definition, method)
    if view is None:
        raise Forbidden(f"{principal.login} may not {method} {definition.name}")
    return view


def view_of(principal: Principal, definition: StoreDefinition, method: str) -> View | None:
    """Return the principal's view of a store for `method`; None if neither a scope nor a grant allows it.

    Views are cached, since each request asks for them several times.
    """
    key = definition.name, method
    known = principal.views.get(key)
    if known is not None and known[0] is definition:
        return known[1]
    view = _make_view(principal, definition, method)
    if len(principal.views) >= MOST_VIEWS:
        principal.views.clear()
    principal.views[key] = definition, view
    return view


def reader_of(principal: Principal, view: View) -> View | None:
    """Return the view for reading the store that `view` writes to; None if the principal may not read it."""
    return view_of(principal, view.definition, "GET")


def _make_view(principal: Principal, definition: StoreDefinition, method: str) -> View | None:
    """Return the view, or None. Built-in grants count only without a scope, which already covers all that the principal
    owns or that is shared with it."""
    right = _right_to(principal, definition, method)
    if right is None:
        return None
    where, readonly = right
    return View(definition, where, definition.hidden, readonly, rights_digest(principal))


Right = tuple[Filter, frozenset[str]]
"""The entities that a principal may use, and the fields that it may not change."""


def _right_to(principal: Principal, definition: StoreDefinition, method: str) -> Right | None:
    if is_reference(definition.purpose):
        return _right_to_reference_data(principal, definition, method)
    may = principal.may_administer if definition.system else principal.may
    if may(method, definition.name):
        return visible_to(principal), reserved_to_others(principal, definition)
    if principal.token_may_administer(method, definition.name) and (grants := grants_of(definition.name, method)):
        return _granted(grants, principal)
    if owners_may(definition.purpose, method) and principal.token_may(method, definition.name):
        return _owned_by(principal.user_id), reserved_to_others(principal, definition)
    return None


def _right_to_reference_data(principal: Principal, definition: StoreDefinition, method: str) -> Right | None:
    is_read = method in ("GET", "HEAD")
    allowed = principal.token_may(method, definition.name) and (is_read or principal.admin)
    return (EVERYTHING, frozenset()) if allowed else None


def reserved_to_others(principal: Principal, definition: StoreDefinition) -> frozenset[str]:
    """Return the fields of a store that only others may change: administrators."""
    return frozenset() if principal.admin else reserved_fields(definition.purpose)


def _granted(grants: list[Grant], principal: Principal) -> tuple[Filter, frozenset[str]]:
    """Return the filter for the entities that the grants cover, and the fields that all of them make read-only."""
    parts = tuple(grant.filter_for(principal) for grant in grants)
    readonly = frozenset.intersection(*(grant.readonly for grant in grants))
    return parts[0] if len(parts) == 1 else Or(parts), readonly


def visible_to(principal: Principal) -> Filter:
    """Return the filter for the entities that the principal owns, is on the access list of, or shares a group with.

    It matches everything for an administrator.
    """
    return EVERYTHING if principal.admin else _shared_with(principal.user_id, principal.groups)


@lru_cache(maxsize=10_000)
def _owned_by(me: str) -> Filter:
    return Equal(("owner",), me)


@lru_cache(maxsize=10_000)
def _shared_with(me: str, groups: tuple[str, ...]) -> Filter:
    choices: tuple[Filter, ...] = (Equal(("owner",), me), Equal(("access",), me))
    if groups:
        choices += (In(("group",), groups), In(("branch",), groups))
    return Or(choices)


def rights_digest(principal: Principal) -> str:
    """Return a short text that differs if two principals may see different entities of any store.

    There is one for all stores, because a position covers all stores.
    """
    by_scope = tuple(store for store in GRANTED_STORES if principal.may_administer("GET", store))
    return _digest_of(visible_to(principal), by_scope, _narrowed_to(principal))


def _narrowed_to(principal: Principal) -> tuple[str, ...] | None:
    """Return the stores that the roles of a principal let it read; None if these are all. Of other stores in which
    owners have rights it sees its own entities alone. Which stores these are is not known here."""
    scopes = None if principal.admin else principal.role_scopes
    if scopes is None or scopes.allow("GET", "*"):
        return None
    return tuple(sorted(store for method, store in scopes.pairs if method in ("GET", "*")))


@lru_cache(maxsize=10_000)
def _digest_of(visibility: Filter, by_scope: tuple[str, ...], narrowed_to: tuple[str, ...] | None) -> str:
    rule = canonical_text([tree_of(visibility), by_scope, *([] if narrowed_to is None else [narrowed_to])])
    return hashlib.sha256(rule.encode()).hexdigest()[:DIGEST_LENGTH]
