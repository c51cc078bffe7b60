"""Sums without rounding, of integers, doubles and decimals, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, Final

Ratio = Callable[[float], tuple[int, int]]
"""Returns a number as (numerator, denominator). Of two denominators the smaller one divides the other."""

_THOUSAND: Final = 1_000


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

    def add(self, values: Iterable[Any]) -> None:
        """Add the numbers among `values`; true and false are none."""
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
            own = self._denominator
            if denominator == own:
                self._numerator += numerator
            elif denominator < own:
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


def _decimal_ratio(value: float) -> tuple[int, int]:
    """Return the decimal whose nearest double is `value`, the shortest one, as a fraction of a power of ten."""
    thousandths = value * _THOUSAND
    if -1e15 < thousandths < 1e15:
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
