"""The newest entities for each of several values of one path: one question, and the collection of its answer.

References are followed with it in both directions: from values to the entities that have them, and from an entity to
the newest of those that refer to it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from stores.errors import ReadTooLarge
from stores.paths import Path
from stores.query import EVERYTHING, Filter, In, both
from stores.relation import Value


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest entities that have each of `values` at `path`, alone or in a list, among those that meet `where`: at
    most `each` for one value. `most_bytes`: bytes of the answer, in which an entity counts once for each of its
    values."""

    path: Path
    values: tuple[Value, ...]
    each: int
    most_bytes: int
    where: Filter = EVERYTHING

    @property
    def condition(self) -> Filter:
        """The filter for entities that have one of the values."""
        return both(self.where, In(self.path, self.values))


Texts = dict[Value, list[bytes]]
"""JSON texts of entities by value, newest first. Values without entities are missing."""


@dataclass(slots=True)
class Collected:
    """The answer to a `Newest`, while it is collected."""

    wanted: Newest
    texts: Texts = field(default_factory=dict)
    _bytes: int = 0

    def takes(self, value: Value) -> bool:
        """Return whether more entities of a value are wanted."""
        return len(self.texts.get(value, ())) < self.wanted.each

    def add(self, value: Value, text: bytes) -> None:
        """Add the next entity of a value. Raises ReadTooLarge."""
        self.count(text)
        self.texts.setdefault(value, []).append(text)

    def count(self, text: bytes) -> None:
        """Count a text of the answer. Raises ReadTooLarge."""
        self._bytes += len(text)
        if self._bytes > self.wanted.most_bytes:
            raise ReadTooLarge(self.wanted.most_bytes)
