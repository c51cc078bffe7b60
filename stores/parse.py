"""Parsing of filters, sorts and projections from the text or JSON of callers. Errors name the part at fault.

`filter` takes MongoDB's notation with a closed list of operators; other operators are rejected by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, TypeGuard

import orjson

from stores import query
from stores.bounds import Limit
from stores.errors import InvalidQuery
from stores.limits import nodes_of
from stores.paths import is_position
from stores.query import Filter, Scalar, Sort
from stores.records import is_id

Check = Callable[[str], None]
"""Called with each dotted path; raises InvalidQuery for a path that the caller may not use."""


class TypedPath(Protocol):
    """A path whose values have a type, to whose canonical form the values of a filter are brought."""

    @property
    def converts(self) -> bool: ...
    def canonical(self, value: Any) -> Any: ...
    def costly_in(self, value: Any) -> int: ...


FieldAt = Callable[[tuple[str, ...]], TypedPath | None]
"""Called with the segments of a path; returns its type, if it has one."""


@dataclass(frozen=True, slots=True)
class FilterLimits:
    """Limits of one filter: `depth` of nesting, `nodes` (conditions), and `items` (values of one list)."""

    depth: int = 16
    nodes: int = 1_000
    items: int = 10_000


MOST_VALUES: Annotated[int, Limit("filter", "values", "400")] = 100_000
"""Values in all lists and composite operands of one filter."""

MOST_TEXT: Annotated[int, Limit("condition", "characters", "400")] = 2_000
"""Characters of a text to search for. With a longer one MongoDB would refuse the regular expression, and the search of
one value would take long."""

MOST_SEARCH_TEXT: Annotated[int, Limit("search", "characters", "400")] = 1_000
"""Characters of a text to search for case-insensitively: there each character makes a longer part of the regular
expression."""

MOST_COSTLY_VALUES: Annotated[int, Limit("filter", "mail addresses beyond ASCII", "400")] = 50
"""Values of a filter whose canonical form takes long to find: about 0.3 ms each, up to 0.8 ms."""

MOST_SEGMENTS: Annotated[int, Limit("path", "segments", "400")] = 100
"""Segments of a dotted path."""

MOST_SORTS: Annotated[int, Limit("request", "fields of a sort", "400")] = 16
"""Fields of one sort."""

MOST_SHOWN: Annotated[int, Limit("request", "paths of a projection", "400")] = 1_000
"""Paths of one `only`."""


def any_path(_: str) -> None:
    """Accept every path."""


def untyped(_: tuple[str, ...]) -> None:
    """Know no type of any path."""


def parse_path(text: str, check: Check = any_path) -> tuple[str, ...]:
    """Return the segments of a dotted path. Raises InvalidQuery for an empty or forbidden one."""
    segments = tuple(text.split("."))
    if len(segments) > MOST_SEGMENTS:
        raise InvalidQuery("path", f"{text[:100]!r}… has more than {MOST_SEGMENTS} segments").at("MOST_SEGMENTS")
    if not all(segments) or "\0" in text or any(s.startswith("$") for s in segments):
        raise InvalidQuery(text or "filter", f"{text!r:.100} is not a field path")
    check(text)
    return segments


def parse_sort(text: str, check: Check = any_path) -> tuple[Sort, ...]:
    """Parse a sort: ``-price,name`` → descending by price, then by name, then by `_id`. Raises InvalidQuery."""
    sorts: list[Sort] = []
    items = text.split(",", MOST_SORTS)
    if len(items) > MOST_SORTS:
        raise InvalidQuery("sort", f"at most {MOST_SORTS} fields").at("MOST_SORTS")
    for item in items:
        name = item.strip().removeprefix("-")
        path = parse_path(named("sort", name), check)
        if any(map(is_position, path)):
            raise InvalidQuery("sort", f"{name!r}: cannot sort by a position of an array")
        if any(s.path == path for s in sorts):
            raise InvalidQuery("sort", f"{name!r} is named twice")
        sorts.append(Sort(path, item.strip().startswith("-")))
    return query.total(tuple(sorts))


def parse_only(text: str, check: Check = any_path) -> tuple[tuple[str, ...], ...]:
    """Parse a projection: ``name,address.city`` → paths to keep. Raises InvalidQuery."""
    items = text.split(",", MOST_SHOWN)
    if len(items) > MOST_SHOWN:
        raise InvalidQuery("only", f"at most {MOST_SHOWN} paths").at("MOST_SHOWN")
    return tuple(parse_path(named("only", item.strip()), check) for item in items)


def named(parameter: str, path: str) -> str:
    """Return the path. Raises InvalidQuery that names the parameter when the path is empty."""
    if not path:
        raise InvalidQuery(parameter, f"{parameter} takes field paths, separated by commas")
    return path


def parse_filter(
    document: object, check: Check = any_path, limits: FilterLimits = FilterLimits(), field_at: FieldAt = untyped
) -> Filter:
    """Return the tree of a MongoDB-style filter document. Raises InvalidQuery that names the operator or field at
    fault."""
    return FilterParser(check, limits, field_at).document(document, 0)


class FilterParser:
    """The state of one parse: it counts conditions and values, and rejects a filter beyond its limits.

    Values at a typed path are brought into the form in which such values are stored. A value that the type rejects
    stays as it is: it is in no entity.
    """

    def __init__(self, check: Check, limits: FilterLimits, field_at: FieldAt = untyped) -> None:
        self.check = check
        self.limits = limits
        self.field_at = field_at
        self.nodes = 0
        self.items = 0
        self.costly = 0
        self.within: tuple[str, ...] = ()
        """The path of the elements, inside of an `$elemMatch`: there paths start in the element."""
        self.elements = 0
        """The number of `$elemMatch` around what is being parsed: inside one, `_id` is a field like any other."""

    def document(self, document: object, depth: int) -> Filter:
        if not isinstance(document, Mapping):
            raise InvalidQuery("filter", "a filter is an object")
        if depth > self.limits.depth:
            raise InvalidQuery("filter", f"the filter is nested deeper than {self.limits.depth}").at("max_filter_depth")
        parts = [self.member(str(key), value, depth) for key, value in document.items()]
        return parts[0] if len(parts) == 1 else query.And(tuple(parts))

    def member(self, key: str, value: object, depth: int) -> Filter:
        if key in ("$and", "$or", "$nor"):
            self.count()
            return self.logical(key, value, depth)
        if key.startswith("$"):
            raise InvalidQuery(key, f"unknown operator {key}")
        return self.conditions(parse_path(key, self.check_within), value, depth)

    def check_within(self, path: str) -> None:
        """Check a path, which starts in the element inside of an `$elemMatch`."""
        self.check(".".join((*self.within, path)))

    def logical(self, key: str, value: object, depth: int) -> Filter:
        if not isinstance(value, list) or not value:
            raise InvalidQuery(key, f"{key} takes a list of at least one filter")
        parts = tuple(self.document(part, depth + 1) for part in value)
        if key == "$and":
            return query.And(parts)
        return query.Or(parts) if key == "$or" else query.Not(query.Or(parts))

    def conditions(self, path: tuple[str, ...], value: object, depth: int) -> Filter:
        """Parse the value of a path: a plain value (equality) or an object of operators."""
        if not is_operators(value):
            return self.operator(path, "$eq", value, depth)
        parts = tuple(self.operator(path, str(op), operand, depth) for op, operand in value.items())
        return parts[0] if len(parts) == 1 else query.And(parts)

    def operator(self, path: tuple[str, ...], op: str, operand: Any, depth: int) -> Filter:
        self.count()
        build = OPERATORS.get(op)
        if build is None:
            raise InvalidQuery(op, f"unknown operator {op}")
        return build(self, path, op, operand, depth + 1)

    def count(self, more: int = 1) -> None:
        """Count conditions: each operator, `$and`, `$or`, `$nor` and plain value is one. Raises InvalidQuery beyond the
        limit."""
        self.nodes += more
        if self.nodes > self.limits.nodes:
            raise InvalidQuery("filter", f"more than {self.limits.nodes} conditions").at("max_filter_nodes")

    def count_items(self, more: int) -> None:
        """Count values of lists and of composite operands. Raises InvalidQuery beyond the limit."""
        self.items += more
        if self.items > MOST_VALUES:
            raise InvalidQuery("filter", f"more than {MOST_VALUES} values in lists and objects").at("MOST_VALUES")

    # The operators, each (path, operator, operand, depth) → tree.

    def equal(self, path: tuple[str, ...], op: str, operand: Any, depth: int) -> Filter:
        node = query.Equal(path, self.value(path, op, operand))
        return query.Not(node) if op == "$ne" else node

    def compare(self, path: tuple[str, ...], op: str, operand: Any, depth: int) -> Filter:
        if isinstance(operand, list | dict):
            raise InvalidQuery(op, f"{op} takes a number, string, boolean or null")
        return query.Compare(path, op[1:], self.value(path, op, operand))  # type: ignore[arg-type]

    def one_of(self, path: tuple[str, ...], op: str, operand: Any, depth: int) -> Filter:
        node = query.In(path, self.values(path, op, operand))
        return query.Not(node) if op == "$nin" else node

    def all_of(self, path: tuple[str, ...], op: str, operand: Any, depth: int) -> Filter:
        values = self.values(path, op, operand)
        if not path:
            raise InvalidQuery(op, f"{op} cannot be used on the elements of an array")
        return query.And(tuple(query.Equal(path, v) for v in values)) if values else query.NOTHING

    def exists(self, path: tuple[str, ...], op: str, operand: Any, depth: int) -> Filter:
        if not isinstance(operand, bool):
            raise InvalidQuery(op, f"{op} takes true or false")
        if not path:
            raise InvalidQuery(op, f"{op} cannot be used on the elements of an array")
        return query.Exists(path) if operand else query.Not(query.Exists(path))

    def size(self, path: tuple[str, ...], op: str, operand: Any, depth: int) -> Filter:
        if isinstance(operand, bool) or not isinstance(operand, int) or operand < 0:
            raise InvalidQuery(op, f"{op} takes a whole number from 0")
        check_value(op, operand, 0)
        return query.Size(path, operand)

    def text(self, path: tuple[str, ...], op: str, operand: Any, depth: int) -> Filter:
        if not isinstance(operand, str):
            raise InvalidQuery(op, f"{op} takes a string")
        if self.is_id(path):
            raise InvalidQuery(op, f"{op} cannot be used on _id")
        check_sought(op, operand)
        return query.Contains(path, operand) if op == "$contains" else query.StartsWith(path, operand)

    def negation(self, path: tuple[str, ...], op: str, operand: Any, depth: int) -> Filter:
        if not is_operators(operand) or depth > self.limits.depth:
            raise InvalidQuery(op, f"{op} takes an object of operators")
        return query.Not(self.conditions(path, operand, depth))

    def element_match(self, path: tuple[str, ...], op: str, operand: Any, depth: int) -> Filter:
        if not isinstance(operand, dict) or not operand or depth > self.limits.depth:
            raise InvalidQuery(op, f"{op} takes an object")
        on_value = is_operators(operand) and not any(k in ("$and", "$or", "$nor") for k in operand)
        self.elements, around = self.elements + 1, self.within
        self.within += path
        condition = self.conditions((), operand, depth) if on_value else self.document(operand, depth)
        self.elements, self.within = self.elements - 1, around
        return query.ElemMatch(path, condition, on_value)

    def is_id(self, path: tuple[str, ...]) -> bool:
        return path == ("_id",) and not self.elements

    def values(self, path: tuple[str, ...], op: str, operand: Any) -> tuple[Any, ...]:
        if not isinstance(operand, list):
            raise InvalidQuery(op, f"{op} takes a list")
        self.check_length(op, len(operand))
        self.count_items(len(operand))
        return tuple(self.value(path, op, item) for item in operand)

    def check_length(self, op: str, items: int) -> None:
        """Raise InvalidQuery for a list that is too long."""
        if items > self.limits.items:
            raise InvalidQuery(op, f"{op} takes at most {self.limits.items} values").at("max_items")

    def value(self, path: tuple[str, ...], op: str, operand: Any) -> Any:
        check_value(op, operand, self.limits.depth)
        if isinstance(operand, list | dict):
            self.count_items(nodes_of(operand) - 1)
        if self.is_id(path) and operand is not None:
            if not isinstance(operand, str) or not is_id(operand.lower()):
                raise InvalidQuery("_id", f"{op}: _id takes an id of 24 hexadecimal characters")
            return operand.lower()
        return self.canonical(path, operand)

    def canonical(self, path: tuple[str, ...], operand: Any) -> Any:
        typed = self.field_at(self.within + path)
        if typed is None or not typed.converts or operand is None:
            return operand
        self.costly += typed.costly_in(operand)
        if self.costly > MOST_COSTLY_VALUES:
            text = f"more than {MOST_COSTLY_VALUES} mail addresses beyond ASCII"
            raise InvalidQuery("filter", text).at("MOST_COSTLY_VALUES")
        return typed.canonical(operand)


OPERATORS: dict[str, Callable[[FilterParser, tuple[str, ...], str, Any, int], Filter]] = {
    "$eq": FilterParser.equal,
    "$ne": FilterParser.equal,
    "$gt": FilterParser.compare,
    "$gte": FilterParser.compare,
    "$lt": FilterParser.compare,
    "$lte": FilterParser.compare,
    "$in": FilterParser.one_of,
    "$nin": FilterParser.one_of,
    "$all": FilterParser.all_of,
    "$exists": FilterParser.exists,
    "$size": FilterParser.size,
    "$contains": FilterParser.text,
    "$startswith": FilterParser.text,
    "$not": FilterParser.negation,
    "$elemMatch": FilterParser.element_match,
}


def is_operators(value: object) -> TypeGuard[dict[str, Any]]:
    """Return whether `value` is an object of operators (``{"$gt": 5}``) and not a value to compare with."""
    return isinstance(value, dict) and bool(value) and next(iter(value)).startswith("$")


def check_value(op: str, value: object, depth: int) -> None:
    """Reject an operand that no entity can hold."""
    if depth < 0:
        raise InvalidQuery(op, f"{op}: the value is nested too deep")
    if isinstance(value, str):
        check_text(op, value)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise InvalidQuery(op, f"{op}: integers have at most 64 bits")
    elif isinstance(value, list):
        for item in value:
            check_value(op, item, depth - 1)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name.startswith("$"):
                raise InvalidQuery(name, f"unknown operator {name}")
            check_text(op, name)
            check_value(op, item, depth - 1)


def check_folded(name: str, text: str) -> None:
    """Reject text to search for case-insensitively that no value can hold, or that is too long."""
    check_sought(name, text)
    if len(text) > MOST_SEARCH_TEXT:
        raise InvalidQuery(name, f"{name} takes at most {MOST_SEARCH_TEXT} characters").at("MOST_SEARCH_TEXT")


def check_sought(name: str, text: str) -> None:
    """Reject text to search for that no value can hold, or that is too long. `name` is its operator or parameter."""
    check_text(name, text)
    if len(text) > MOST_TEXT:
        raise InvalidQuery(name, f"{name} takes at most {MOST_TEXT} characters").at("MOST_TEXT")


def check_text(op: str, text: str) -> None:
    if "\0" in text:
        raise InvalidQuery(op, f"{op}: text must not contain NUL")


def scalar(text: str) -> Scalar:
    """Return an untyped parameter value: numbers, true, false and null become JSON values; quotes force a string."""
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return text[1:-1]
    literal: dict[str, Scalar] = {"true": True, "false": False, "null": None}
    if text in literal:
        return literal[text]
    return number(text) if text[:1] in "-0123456789" and text else text


def number(text: str) -> Scalar:
    """Return the JSON number in `text`, or `text` itself: ``007`` and ``1e999`` are not numbers."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    if isinstance(value, bool) or not isinstance(value, int | float) or text != text.strip():
        return text
    whole = not any(c in text for c in ".eE")
    # orjson turns an integer beyond 64 bits into a float: such a text stays text.
    return text if whole and not (isinstance(value, int) and -(2**63) <= value < 2**63) else value
