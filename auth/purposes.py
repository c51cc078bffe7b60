"""Rights that follow from the purpose of a store, in addition to those from scopes.

A store has a purpose when one of the hub's APIs made it, such as ``listings.properties``: the name of the API, and what
the store holds. Rights never depend on the name of such a store, which administrators may change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from auth.scopes import METHODS

PROPERTIES: Final = "listings.properties"
IMAGES: Final = "listings.images"

REFERENCE: Final = "reference"
"""The second part of a purpose such as ``listings.reference.districts``: lists of values that entities refer to."""


@dataclass(frozen=True, slots=True)
class OwnersRights:
    """What every user may do with its own entities of a store. Only administrators change the fields in `reserved`."""

    methods: frozenset[str]
    reserved: frozenset[str] = frozenset()


_OWNERS: Final[Mapping[str, OwnersRights]] = {
    PROPERTIES: OwnersRights(frozenset(METHODS), frozenset({"is_verified", "is_sponsored"})),
    IMAGES: OwnersRights(frozenset(METHODS)),
}


def is_reference(purpose: str) -> bool:
    """Return whether a store holds reference data: everybody reads all of it, and only administrators write it."""
    return purpose.split(".")[1:2] == [REFERENCE]


def owners_may(purpose: str, method: str) -> bool:
    """Return whether users may use a method on their own entities, without a scope. HEAD counts as GET."""
    rights = _OWNERS.get(purpose)
    return rights is not None and ("GET" if method == "HEAD" else method) in rights.methods


def reserved_fields(purpose: str) -> frozenset[str]:
    """Return the fields that only administrators change."""
    rights = _OWNERS.get(purpose)
    return frozenset() if rights is None else rights.reserved
