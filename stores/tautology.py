"""Detection of filters that are true of every possible entity, and so are no condition at all."""

from __future__ import annotations

from stores.query import (
    And,
    Contains,
    ContainsFolded,
    ElemMatch,
    Equal,
    Exists,
    Filter,
    In,
    Not,
    Or,
    StartsWith,
)
from stores.records import is_id

_IDS = frozenset({"_id", "owner", "group", "access", "branch"})
_NEVER_NULL = frozenset({"_id", "time", "_at", "_rev"})
_ALWAYS_THERE = _IDS | _NEVER_NULL


def is_tautology(where: Filter) -> bool:
    """Return whether a filter has no effective condition, such as ``{}``, ``{"a": {"$nin": []}}`` or an `$or` with an
    empty branch. A text operator with an empty text counts as no condition: an unset variable in a client makes one."""
    return _constant(where) is True


def _constant(node: Filter) -> bool | None:
    """Return the truth value that a filter has for every entity; None when it depends on the entity."""
    match node:
        case And():
            values = [_constant(part) for part in node.parts]
            return False if False in values else True if all(values) else None
        case Or():
            values = [_constant(part) for part in node.parts]
            return True if True in values else None if None in values else False
        case Not():
            value = _constant(node.part)
            return None if value is None else not value
        case In():
            return None if any(_possible(node.path, value) for value in node.values) else False
        case Equal():
            return None if _possible(node.path, node.value) else False
        case Exists():
            return True if len(node.path) == 1 and node.path[0] in _ALWAYS_THERE else None
        case Contains() | ContainsFolded() | StartsWith():
            return None if node.text else True
        case ElemMatch():
            return False if _constant(node.condition) is False else None
    return None


def _possible(path: tuple[str, ...], value: object) -> bool:
    """Return whether an entity can have the value at the path. Some system fields are never null, and fields of ids
    hold only ids: so ``owner[ne]=undefined`` is true of every entity."""
    name = path[0] if len(path) == 1 else ""
    if value is None:
        return name not in _NEVER_NULL
    return name not in _IDS or not isinstance(value, str) or is_id(value)
