"""Detection of filters that are true of every possible entity, and so are no condition at all."""

from __future__ import annotations

from stores.query import (
    And,
    Compare,
    Contains,
    ContainsFolded,
    ElemMatch,
    Equal,
    Exists,
    Filter,
    In,
    Leaf,
    Not,
    Or,
    StartsWith,
)
from stores.records import is_id

_IDS = frozenset({"_id", "owner", "group", "access", "branch"})
_NUMBERS = frozenset({"time", "_at", "_rev"})
_NEVER_NULL = _NUMBERS | {"_id"}
_ALWAYS_THERE = _IDS | _NEVER_NULL


def is_tautology(where: Filter) -> bool:
    """Return whether a filter has no effective condition, such as ``{}``, ``{"a": {"$nin": []}}`` or an `$or` with an
    empty branch. A text operator with an empty text counts as no condition: an unset variable in a client makes one."""
    return _constant(where) is True


def _constant(node: Filter, *, top: bool = True) -> bool | None:
    """Return the truth value that a filter has for every entity; None when it depends on the entity. `top`: paths start
    in the entity, and not in an element of an array, where no name is that of a system field."""
    match node:
        case And():
            values = [_constant(part, top=top) for part in node.parts]
            return False if False in values else True if all(values) else None
        case Or():
            values = [_constant(part, top=top) for part in node.parts]
            return True if True in values else None if None in values else False
        case Not():
            value = _constant(node.part, top=top)
            return None if value is None else not value
        case Leaf():
            return _constant_leaf(node, node.path[0] if top and len(node.path) == 1 else "")
    return None


def _constant_leaf(node: Leaf, name: str) -> bool | None:
    """Return the same for a leaf. `name` is the top-level field at its path, empty for a deeper one."""
    if name in _NUMBERS and not isinstance(node, Exists):
        return None if any(_is_number(value) for value in _operands(node)) else False
    match node:
        case In() | Equal():
            return None if any(_possible(name, value) for value in _operands(node)) else False
        case Exists():
            return True if name in _ALWAYS_THERE else None
        case Contains() | ContainsFolded() | StartsWith():
            return None if node.text else True
        case ElemMatch():
            return False if _constant(node.condition, top=False) is False else None
    return None


def _operands(node: Leaf) -> tuple[object, ...]:
    """Return the values that a leaf compares with; none for conditions on texts and lists."""
    match node:
        case In():
            return node.values
        case Equal() | Compare():
            return (node.value,)
    return ()


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _possible(name: str, value: object) -> bool:
    """Return whether the field of an entity can have the value. Some system fields are never null, and fields of ids
    hold only ids: so ``owner[ne]=undefined`` is true of every entity."""
    if value is None:
        return name not in _NEVER_NULL
    return name not in _IDS or not isinstance(value, str) or is_id(value)
