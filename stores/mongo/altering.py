"""Conditions that MongoDB checks in the same step as a write: that it alters the document, and the revision."""

from __future__ import annotations

from typing import Any, Final

from stores.mongo.codec import BY
from stores.mongo.compile import REVISION, Match, compile_filter
from stores.protocol import AllBut, Revisions
from stores.query import In, Not
from stores.records import STAMPS, SYSTEM_FIELDS, Entity

_QUICK_FIELDS: Final = 50
_QUICK_LENGTH: Final = 1_000
_QUICK_ITEMS: Final = 20
_DEEPEST: Final = 8
"""Levels of objects that are compared member by member. Below them the order of members is significant."""


def alters(changes: Entity, replace: bool) -> Match | None:
    """Return the condition for documents that the changes would alter; None if there can be none."""
    fields = {name: value for name, value in changes.items() if name not in STAMPS}
    different: list[Match] = [{"$not": [_equals(_field(name, "$$ROOT"), value, 0)]} for name, value in fields.items()]
    if replace:
        others = {"$setDifference": [_names("$$ROOT"), {"$literal": [*SYSTEM_FIELDS, BY, *fields]}]}
        different.append({"$ne": [others, []]})
    return {"$expr": {"$or": different}} if different else None


def may_alter(changes: Entity) -> Match | None:
    """Return a quicker condition than `alters`; None if there are no changes.

    It holds for most documents that the changes would alter, and for no others. It misses a value that replaces an
    array containing it, and a null for a missing field."""
    different = [{name: {"$ne": value}} for name, value in changes.items() if name not in STAMPS]
    return {"$or": different} if different else None


def is_quick(changes: Entity) -> bool:
    """Return whether the condition is small, so that sending the values a second time costs nothing."""
    return len(changes) <= _QUICK_FIELDS and all(map(_is_small, changes.values()))


def at_revisions(revs: Revisions | None) -> Match:
    """Return the condition for documents at one of these revisions."""
    if revs is None:
        return {}
    named = revs.excluded if isinstance(revs, AllBut) else revs
    if 0 in named:
        # A document that another program wrote without a revision counts as 0.
        at = In((REVISION,), tuple(sorted(named)))
        return compile_filter(Not(at) if isinstance(revs, AllBut) else at)
    return {REVISION: {"$nin" if isinstance(revs, AllBut) else "$in": sorted(named)}}


def _is_small(value: Any) -> bool:
    if isinstance(value, list):
        return len(value) <= _QUICK_ITEMS and not any(isinstance(v, list) or not _is_small(v) for v in value)
    return not isinstance(value, dict) and (not isinstance(value, str) or len(value) <= _QUICK_LENGTH)


def _field(name: str, of: Any) -> Match:
    return {"$getField": {"field": {"$literal": name}, "input": of}}


def _names(of: Any) -> Match:
    return {"$map": {"input": {"$objectToArray": of}, "in": "$$this.k"}}


def _equals(found: Any, value: Any, depth: int) -> Match:
    """Return the expression for JSON equality, in which the order of members of an object is not significant."""
    if depth < _DEEPEST and isinstance(value, dict) and value:
        members = [_equals(_field(name, found), item, depth + 1) for name, item in value.items()]
        same_names = {"$setEquals": [_names(found), {"$literal": [*value]}]}
        return {"$cond": [{"$eq": [{"$type": found}, "object"]}, {"$and": [same_names, *members]}, False]}
    if depth < _DEEPEST and isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        items = [_equals({"$arrayElemAt": [found, i]}, item, depth + 1) for i, item in enumerate(value)]
        same_size = {"$eq": [{"$size": found}, len(value)]}
        return {"$cond": [{"$isArray": [found]}, {"$and": [same_size, *items]}, False]}
    return {"$eq": [found, {"$literal": value}]}
