"""Detection of filters that are true of every possible entity, and so are no condition at all."""

from __future__ import annotations

from stores.folding import fold
from stores.paths import Path
from stores.possible import Possible, possible_at
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
    Size,
    StartsWith,
)
from stores.records import Json
from stores.schema import StoreDefinition


def is_tautology(where: Filter, definition: StoreDefinition) -> bool:
    """Return whether a filter has no effective condition, such as ``{}``, ``{"a": {"$nin": []}}`` or an `$or` with an
    empty branch: whether it is true of every entity that the store may hold, by the types and settings of its
    fields. A text operator with an empty text counts as no condition: an unset variable in a client makes one.

    Each condition is judged alone: ``a = 1 or a != 1`` passes."""
    return _Judge(definition, (), {}).truth(where) is True


class _Judge:
    """Judges conditions. `within`: the path of the list in whose elements paths begin, empty in the entity itself.
    `known` caches the possible values at the paths of one filter, which may have a thousand conditions on one path."""

    def __init__(self, definition: StoreDefinition, within: Path, known: dict[tuple[Path, Path], Possible]) -> None:
        self._definition = definition
        self._within = within
        self._known = known

    def truth(self, node: Filter) -> bool | None:
        """Return the truth value that a filter has for every entity; None when it depends on the entity."""
        match node:
            case And():
                values = [self.truth(part) for part in node.parts]
                return False if False in values else True if all(values) else None
            case Or():
                values = [self.truth(part) for part in node.parts]
                return True if True in values else None if None in values else False
            case Not():
                value = self.truth(node.part)
                return None if value is None else not value
            case Leaf():
                return self._leaf(node)
        return None

    def _possible(self, path: Path) -> Possible:
        key = path, self._within
        if key not in self._known:
            self._known[key] = possible_at(self._definition, path, self._within)
        return self._known[key]

    def _leaf(self, node: Leaf) -> bool | None:
        possible = self._possible(node.path)
        match node:
            case Equal():
                return _among(possible, (node.value,))
            case In():
                return _among(possible, node.values)
            case Compare():
                return _compare(possible, node)
            case Exists():
                return True if possible.always else None
            case Size():
                can_be = possible.lists and (possible.most is None or node.size <= possible.most)
                return None if can_be else False
            case StartsWith():
                return _text(node.text, any(span.may_begin(node.text) for span in possible.spans))
            case Contains():
                return _text(node.text, any(span.may_contain(node.text) for span in possible.spans))
            case ContainsFolded():
                folded = fold(node.text)
                return _text(folded, any(span.folded.may_contain(folded) for span in possible.spans))
            case ElemMatch():
                return self._element_match(node, possible)
        return None

    def _element_match(self, node: ElemMatch, possible: Possible) -> bool | None:
        if not possible.lists or not (node.on_value or possible.objects):
            return False
        inside = _Judge(self._definition, (*self._within, *node.path), self._known)
        return False if inside.truth(node.condition) is False else None


def _text(text: str, may_be: bool) -> bool | None:
    if not may_be:
        return False
    return None if text else True


def _among(possible: Possible, values: tuple[Json, ...]) -> bool | None:
    if not any(possible.null if value is None else possible.fits(value) for value in values):
        return False
    if not possible.single or (possible.null and None not in values):
        return None
    named = {_key(value) for value in values if not isinstance(value, list | dict)}
    every = all(span.is_one_value and _key(span.low) in named for span in possible.spans)
    return True if every else None


def _key(value: Json) -> object:
    """Return a scalar as a member of a set, equal as in a filter: 1 equals 1.0 but not True."""
    return (bool, value) if isinstance(value, bool) else value


def _compare(possible: Possible, node: Compare) -> bool | None:
    if node.value is None:  # `gte` and `lte` are true of null, `gt` and `lt` of nothing
        return _among(possible, (None,) if node.op in ("gte", "lte") else ())
    if not any(span.some(node.op, node.value) for span in possible.spans):
        return False
    sure = possible.single and not possible.null and all(span.all(node.op, node.value) for span in possible.spans)
    return True if sure else None
