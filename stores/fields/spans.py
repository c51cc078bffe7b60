"""Spans of scalars: which values of one JSON type may stand in a field, as far as bounds tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from operator import ge, gt, le, lt
from typing import Any, Final

from stores.folding import fold
from stores.ordering import rank
from stores.records import Json

_COMPARISONS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {"gt": gt, "gte": ge, "lt": lt, "lte": le}
_LAST_CHARACTER: Final = "\U0010ffff"
_LARGEST: Final = 1.7976931348623157e308


@dataclass(frozen=True, slots=True)
class Span:
    """The scalars from `low` to `high`, where it is not None: all of one JSON type. `characters`: those in texts; None
    for any. Not all scalars of a span need be values of the field."""

    low: Any
    high: Any = None
    characters: str | None = None

    @property
    def is_one_value(self) -> bool:
        return self.high is not None and bool(self.low == self.high)

    def some(self, op: str, value: Json) -> bool:
        """Return whether a value of the span may compare so with `value`."""
        if rank(value) != rank(self.low):
            return False
        bound = self.high if op in ("gt", "gte") else self.low
        return bound is None or _COMPARISONS[op](bound, value)

    def all(self, op: str, value: Json) -> bool:
        """Return whether every value of the span compares so with `value`."""
        bound = self.low if op in ("gt", "gte") else self.high
        return bound is not None and rank(value) == rank(self.low) and _COMPARISONS[op](bound, value)

    def may_begin(self, text: str) -> bool:
        """Return whether a value of the span may begin with `text`."""
        if not isinstance(self.low, str):
            return False
        if self.is_one_value:
            return self.low.startswith(text)
        may_be = self.low <= text + _LAST_CHARACTER and (self.high is None or self.high >= text)
        return may_be and (self.characters is None or set(text) <= set(self.characters))

    def may_contain(self, text: str) -> bool:
        """Return whether a value of the span may contain `text`, with the same case."""
        if not isinstance(self.low, str):
            return False
        if self.is_one_value:
            return text in self.low
        return self.characters is None or set(text) <= set(self.characters)

    @property
    def folded(self) -> Span:
        """The span for a search without regard to case."""
        if not isinstance(self.low, str):
            return self
        if self.is_one_value:
            return one_value(fold(self.low))
        return TEXTS if self.characters is None else Span("", None, fold(self.characters))

    def within(self, low: Any, high: Any) -> Span:
        """Return the part of the span between two bounds of its type; None is no bound."""
        least = self.low if low is None else max(self.low, low)
        most = high if self.high is None or high is None else min(self.high, high)
        return replace(self, low=least, high=self.high if most is None else most)


def one_value(value: Any) -> Span:
    return Span(value, value)


TEXTS: Final = Span("")
NUMBERS: Final = Span(-_LARGEST, _LARGEST)
BOOLEANS: Final = (one_value(False), one_value(True))
SCALARS: Final = (TEXTS, NUMBERS, *BOOLEANS)
HEXADECIMAL: Final = "0123456789abcdef"
IDS: Final = Span("0" * 24, "f" * 24, HEXADECIMAL)
