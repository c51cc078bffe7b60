"""Sums without rounding, of integers, doubles and decimals, in bounded memory."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any, Final

Ratio = Callable[[float], tuple[int, int]]
"""Returns a number as (numerator, denominator). Of two denominators the smaller one divides the other."""

_THOUSAND: Final = 1_000
_MOST_THOUSANDTHS: Final = 1e15
"""Thousandths below which a double is the nearest one of at most one decimal of three places."""

_FEW: Final = 16
"""Values that are added one by one."""
_MOST_PARTS: Final = 4
"""Doubles that hold the sum of many. Those of numbers of very different sizes would be up to 40."""
_AT_ONCE: Final = 4_000
"""Values that are added in one call of the interpreter, which cannot be interrupted: about 0.2 ms."""


class ExactSum:
    """The exact sum of the numbers among some values.

    It is one fraction, so it takes at most some hundred bytes, however many numbers there are. A double is a fraction
    whose denominator is a power of two, and a decimal one whose denominator is a power of ten.

    `decimal`: the doubles stand for decimals, of which each is the nearest double.
    """

    __slots__ = ("_decimal", "_denominator", "_has_double", "_numerator", "_ratio", "count")

    def __init__(self, decimal: bool) -> None:
        self.count = 0
        """The number of numbers."""
        self._decimal = decimal
        self._ratio: Ratio = _decimal_ratio if decimal else float.as_integer_ratio
        self._has_double = False
        self._numerator = 0
        self._denominator = 1

    def add(self, values: Sequence[Any]) -> None:
        """Add the numbers among `values`; true and false are none."""
        if len(values) <= _FEW:
            self._add_each(values)
            return
        for start in range(0, len(values), _AT_ONCE):
            some = values[start : start + _AT_ONCE]
            kinds = set(map(type, some))
            if int in kinds:
                self._add_integers(some if len(kinds) == 1 else [v for v in some if type(v) is int])
            if float in kinds:
                self._add_doubles(some if len(kinds) == 1 else [v for v in some if type(v) is float])

    def _add_integers(self, values: Sequence[int]) -> None:
        self.count += len(values)
        self._numerator += sum(values) * self._denominator

    def _add_doubles(self, values: Sequence[float]) -> None:
        sums = _in_thousandths(values) if self._decimal else _exact_parts(values)
        if sums is None:
            self._add_each(values)
            return
        self.count += len(values)
        self._has_double = True
        for numerator, denominator in sums:
            self._add_fraction(numerator, denominator)

    def _add_each(self, values: Iterable[Any]) -> None:
        for value in values:
            kind = type(value)
            if kind is int:
                numerator, denominator = value, 1
            elif kind is float:
                numerator, denominator = self._ratio(value)
                self._has_double = True
            else:
                continue
            self.count += 1
            if denominator == self._denominator:  # the usual case; a call would take a third of the time
                self._numerator += numerator
            else:
                self._add_fraction(numerator, denominator)

    def _add_fraction(self, numerator: int, denominator: int) -> None:
        own = self._denominator
        if denominator <= own:
            self._numerator += numerator * (own // denominator)
        else:
            self._numerator = self._numerator * (denominator // own) + numerator
            self._denominator = denominator

    def total(self) -> int | float | Decimal:
        """Return the sum: of integers an integer, of decimals an integer or a decimal, and otherwise the nearest
        double. Raises OverflowError if that is beyond all doubles."""
        if not self._has_double:
            return self._numerator
        if self._decimal:
            return _decimal(self._numerator, self._denominator)
        return self._numerator / self._denominator

    def average(self) -> float | None:
        """Return `total` divided by the number of numbers, as a double; None without numbers."""
        if not self.count:
            return None
        if self._has_double and not self._decimal:
            try:
                return self._numerator / self._denominator / self.count
            except OverflowError:  # the sum is beyond all doubles, and the average is not
                pass
        return self._numerator / (self._denominator * self.count)


Fractions = Sequence[tuple[int, int]]
"""Numerators and denominators of a few fractions, whose sum is that of many numbers."""


def _exact_parts(values: Sequence[float]) -> Fractions | None:
    """Return a few doubles that have exactly the sum of `values`; None if they would be many, or beyond all doubles.

    `math.fsum` rounds the sum once. The difference to the exact sum, which it finds in the same way, is some 2**53
    times less, and so on until nothing is left: after two or three steps, for numbers of similar size."""
    rest = [*values]
    parts: list[tuple[int, int]] = []
    try:
        while part := math.fsum(rest):
            if len(parts) == _MOST_PARTS:
                return None
            parts.append(part.as_integer_ratio())
            rest.append(-part)
    except (OverflowError, ValueError):
        return None
    return parts


def _in_thousandths(values: Sequence[float]) -> Fractions | None:
    """Return the sum of the decimals for which `values` stand; None if one of them is no short number of thousandths
    (see `_decimal_ratio`)."""
    thousandths = [value * _THOUSAND for value in values]
    if max(map(abs, thousandths)) >= _MOST_THOUSANDTHS:
        return None
    nearest = [*map(round, thousandths)]
    if any(map(operator.ne, [each / _THOUSAND for each in nearest], values)):
        return None
    return [(sum(nearest), _THOUSAND)]


def _decimal_ratio(value: float) -> tuple[int, int]:
    """Return the decimal whose nearest double is `value`, the shortest one, as a fraction of a power of ten."""
    thousandths = value * _THOUSAND
    if -_MOST_THOUSANDTHS < thousandths < _MOST_THOUSANDTHS:
        nearest = round(thousandths)
        if nearest / _THOUSAND == value:
            return nearest, _THOUSAND
    sign, digits, exponent = Decimal(repr(value)).as_tuple()
    assert isinstance(exponent, int)
    numerator = int("".join(map(str, digits))) * (-1 if sign else 1)
    return (numerator * 10**exponent, 1) if exponent > 0 else (numerator, 10**-exponent)


def _decimal(numerator: int, denominator: int) -> int | Decimal:
    """Return a fraction of a power of ten without trailing zeros."""
    while denominator > 1 and numerator % 10 == 0:
        numerator //= 10
        denominator //= 10
    if denominator == 1:
        return numerator
    digits = tuple(map(int, str(abs(numerator))))
    return Decimal((int(numerator < 0), digits, 1 - len(str(denominator))))  # exact: no context rounds it
