"""An index of terms, which finds the holders of those terms that an entity has.

The paths of all terms form a tree. A look-up walks the entity and the tree together, and takes the smaller of both at
each object and array. So terms at paths that the entity lacks cost it nothing, however many there are.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from stores.paths import ELEMENT_STEPS, Path
from stores.records import Entity
from stores.steps import Spend

Term = tuple[Path, Any]
"""An equality condition: a path, which is not empty, and its value as a `term_value`."""

Holder = TypeVar("Holder", bound=Hashable)


_SCALARS: Final = (str, int, float)
"""Types of the values that a term may have."""


def term_value(value: Any) -> Any:
    """Return the value as a dictionary key. Keys are equal as values are in a filter: 1 is 1.0 but not True."""
    return (bool, value) if isinstance(value, bool) else value


@dataclass(slots=True)
class _Node(Generic[Holder]):
    """The terms whose paths begin with the same segments. `holders` are those of the terms that end here."""

    following: dict[str, _Node[Holder]] = field(default_factory=dict)
    positions: dict[int, _Node[Holder]] = field(default_factory=dict)
    """Those of `following` whose segment may be the position of an array's element."""
    holders: dict[Any, dict[Holder, None]] = field(default_factory=dict)

    def make(self, segment: str) -> _Node[Holder]:
        node = self.following.get(segment)
        if node is None:
            node = self.following[segment] = _Node()
            if (position := _position(segment)) is not None:
                self.positions[position] = node
        return node

    def remove(self, path: Path, value: Any, holder: Holder) -> None:
        """Remove a term below this node, and the nodes that have no other."""
        if not path:
            same = self.holders[value]
            del same[holder]
            if not same:
                del self.holders[value]
            return
        node = self.following[path[0]]
        node.remove(path[1:], value, holder)
        if not node.following and not node.holders:
            del self.following[path[0]]
            if (position := _position(path[0])) is not None:
                del self.positions[position]


def _position(segment: str) -> int | None:
    """Return the position that a segment names, written as `str` writes it."""
    is_number = segment.isdecimal() and segment.isascii() and len(segment) < 10
    return int(segment) if is_number and (segment[0] != "0" or segment == "0") else None


class TermIndex(Generic[Holder]):
    """The holders of terms."""

    def __init__(self) -> None:
        self._root: _Node[Holder] = _Node()

    def add(self, term: Term, holder: Holder) -> None:
        node = self._root
        for segment in term[0]:
            node = node.make(segment)
        node.holders.setdefault(term[1], {})[holder] = None

    def remove(self, term: Term, holder: Holder) -> None:
        self._root.remove(*term, holder)

    def collect(self, entities: Iterable[Entity | None], found: dict[Holder, None], spend: Spend) -> None:
        """Add the holders of the terms of these entities to `found`. `spend` is called with the cost of each step."""
        walk = _Walk(found, spend)
        for entity in entities:
            if entity is not None:
                walk.enter_object(self._root, entity)


class _Walk(Generic[Holder]):
    """One look-up. It reaches the same values as `stores.paths.elements`, at all paths of the tree together."""

    __slots__ = ("_found", "_spend")

    def __init__(self, found: dict[Holder, None], spend: Spend) -> None:
        self._found = found
        self._spend = spend

    def enter_object(self, node: _Node[Holder], entity: Entity) -> None:
        following = node.following
        if len(following) <= len(entity):
            self._spend(len(following))
            for name, below in following.items():
                if name in entity:
                    self._enter(below, entity[name])
            return
        self._spend(len(entity))
        for name, value in entity.items():
            if name in following:
                self._enter(following[name], value)

    def _enter(self, node: _Node[Holder], value: Any) -> None:
        if isinstance(value, _SCALARS):
            holders = node.holders.get(term_value(value))
            if holders:
                self._found.update(holders)
        elif isinstance(value, dict):
            if node.following:
                self.enter_object(node, value)
        elif isinstance(value, list):
            if node.holders:
                self._spend(2 * len(value))
                for element in value:
                    if isinstance(element, _SCALARS):
                        self._enter(node, element)
            self._enter_array(node, value)

    def _enter_array(self, node: _Node[Holder], array: list[Any]) -> None:
        """Go on in each element that is an object, and in the elements that numeric segments name."""
        if not node.following:
            return
        self._spend(ELEMENT_STEPS * len(array))
        for element in array:
            if isinstance(element, dict):
                self.enter_object(node, element)
        positions = node.positions
        for position in positions if len(positions) < len(array) else range(len(array)):
            if position < len(array) and position in positions:
                self._enter_element(positions[position], array[position])

    def _enter_element(self, node: _Node[Holder], element: Any) -> None:
        if isinstance(element, list):  # an array that a numeric segment names is one value, not many
            self._enter_array(node, element)
        else:
            self._enter(node, element)
