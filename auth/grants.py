"""Grants: rights on some entities of one store, whoever owns them, in addition to the rights from scopes.

The built-in grants are data, in a form that can also be stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from auth.principal import Principal
from stores.parse import parse_filter
from stores.query import Filter

ME: Final = "$me"
"""Placeholder for the user's id in the `where` of a grant."""


@dataclass(frozen=True, slots=True, eq=False)
class Grant:
    """The right to use `methods` on the entities of `store` that match the filter document `where`.

    The holder cannot change the `readonly` fields.
    """

    store: str
    methods: frozenset[str]
    where: Mapping[str, Any]
    readonly: frozenset[str] = frozenset()

    def filter_for(self, principal: Principal) -> Filter:
        """Return the filter for the entities that the principal is granted."""
        return _filter_of(self, principal.user_id)


@lru_cache(maxsize=10_000)
def _filter_of(grant: Grant, user_id: str) -> Filter:
    return parse_filter({path: user_id if value == ME else value for path, value in grant.where.items()})


BUILT_IN: Final = (
    Grant(
        "users",
        frozenset({"GET", "PATCH"}),
        {"_id": ME},
        readonly=frozenset({"login", "login_key", "roles", "disabled", "group", "subscription_tier"}),
    ),
    Grant("tokens", frozenset({"GET", "POST", "PATCH", "DELETE"}), {"owner": ME}),
    Grant(
        "keys",
        frozenset({"GET", "POST", "PATCH", "DELETE"}),
        {"owner": ME},
        readonly=frozenset({"scope", "user"}),
    ),
    Grant("sessions", frozenset({"GET", "DELETE"}), {"owner": ME}),
    Grant("signins", frozenset({"GET"}), {"owner": ME}),
)
"""Rights of every signed-in user on their own entities in system stores."""

GRANTED_STORES: Final = tuple(sorted({grant.store for grant in BUILT_IN}))


def grants_of(store: str, method: str) -> list[Grant]:
    """Return the built-in grants of a method on a store. HEAD counts as GET."""
    method = "GET" if method == "HEAD" else method
    return [grant for grant in BUILT_IN if grant.store == store and method in grant.methods]
