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
    may = principal.may_administer if definition.system else principal.may
    if may(method, definition.name):
        where, readonly = visible_to(principal), frozenset[str]()
    elif principal.token_may_administer(method, definition.name) and (grants := grants_of(definition.name, method)):
        where, readonly = _granted(grants, principal)
    else:
        return None
    return View(definition, where, definition.hidden, readonly, rights_digest(principal))


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
    return _digest_of(visible_to(principal), by_scope)


@lru_cache(maxsize=10_000)
def _digest_of(visibility: Filter, by_scope: tuple[str, ...]) -> str:
    rule = canonical_text([tree_of(visibility), by_scope])
    return hashlib.sha256(rule.encode()).hexdigest()[:DIGEST_LENGTH]
