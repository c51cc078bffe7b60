"""Lists of values of one type: fields with `many`, and the lists of options."""

from __future__ import annotations

from json import JSONEncoder
from typing import Annotated, Any, Final

from stores.bounds import Limit
from stores.errors import Violation
from stores.fields.base import Checker, PartsRejected, Rejected
from stores.limits import MOST_VIOLATIONS
from stores.numbers import with_whole_numbers
from stores.records import Json

DEFAULT_MAX_ITEMS: Final[Annotated[int, Limit("field", "values of a list, without `max_items`", "400")]] = 1_000
LARGEST_MAX_ITEMS: Final[Annotated[int, Limit("field", "values that `max_items` may allow", "400")]] = 10_000

_sorted_text: Final = JSONEncoder(separators=(",", ":"), sort_keys=True).encode


def list_checker(check: Checker, most: int, *, distinct: bool) -> Checker:
    """Return the check of a list of at most `most` values, each of which `check` accepts. With `distinct`, no two of
    them have the same canonical form."""

    def check_list(value: Any) -> Json:
        if not isinstance(value, list):
            raise Rejected("type", "a list of values")
        if len(value) > most:
            raise Rejected("too_many", str(most))
        try:
            checked = [check(item) for item in value]
        except Rejected:
            raise PartsRejected(_violations(check, value)) from None
        if distinct:
            refuse_doubles(checked)
        return checked

    return check_list


def refuse_doubles(values: list[Json]) -> None:
    """Raise PartsRejected that names each value equal to an earlier one."""
    known: set[object] = set()
    doubles: list[Violation] = []
    for position, value in enumerate(values):
        identity = _identity(value)
        if identity in known:
            doubles.append(Violation(str(position), "double"))
        known.add(identity)
    if doubles:
        raise PartsRejected(doubles[:MOST_VIOLATIONS])


def _violations(check: Checker, items: list[Any]) -> list[Violation]:
    found: list[Violation] = []
    for position, item in enumerate(items):
        try:
            check(item)
        except Rejected as refusal:
            found += refusal.at(str(position))
            if len(found) >= MOST_VIOLATIONS:
                break
    return found[:MOST_VIOLATIONS]


def _identity(value: Json) -> object:
    """Return a key that equal values share, equal as in a filter: 1 equals 1.0, and does not equal true."""
    if isinstance(value, dict | list):
        return _sorted_text(with_whole_numbers(value)), "json"
    return value, isinstance(value, bool)
