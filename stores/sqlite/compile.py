"""Compilation of the query tree to SQL over `doc`, with exactly MongoDB's semantics.

There are three ways, and the cheapest exact one is taken. A system field is a column. An indexed path that has held
only nulls, numbers and strings compares as in SQLite, so its index can be used. For any other path the SQL tests the
type and enters arrays with `json_each`; where SQL cannot express the condition (an array in the middle of the path,
composite operands) it calls the matcher.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import apsw
import orjson

from stores import query
from stores.matcher import compile_filter
from stores.query import Filter, Leaf
from stores.records import Entity
from stores.sqlite.allowance import spend
from stores.sqlite.tables import StoreTable, extract, json_path

COLUMNS = {"_id": "id", "time": "time", "_at": "at", "_rev": "rev", "owner": "owner", "group": '"group"'}
_TEXTS = frozenset({"_id", "owner", "group"})
"""The columns of `COLUMNS` that hold text; the others hold integers."""


MOST_KEPT_VALUES: Final = 200
"""Values of a condition up to which it is kept; with `MOST_COMPILED_FILTERS` this bounds the memory of kept ones."""

# SQLite's own limits: 32 766 variables in a statement, and 1 000 levels of nesting in an expression. A chain of ORs has
# one level for each OR.

SHORT_LIST: Final = 100
"""Values of a list that are bound one by one. A longer list is bound as one variable, a JSON array."""

MANY_VALUES: Final = 10_000
"""Variables of a statement from which on every list is bound as one variable."""

SHORT_CHAIN: Final = 8
"""Conditions joined in a chain. More conditions are joined as a balanced tree."""

WIDEST: Final = 1_000
"""Conditions of one conjunction in SQL. Only `$all` of arrays and objects can have more; the matcher evaluates it."""

DEEPEST: Final = 16
"""Segments of a path in SQL, which names every prefix of the path. The matcher evaluates longer paths."""

_SCALARS: Final = frozenset({str, int, float})
_OF_SCALARS: Final = "{} IN ('text','integer','real')"
LONGEST_SOUGHT = 64
"""Characters of a text that `instr` searches for: it compares them again at every position of the value."""

_SQL = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


class Compiler:
    """The compiler of the conditions of one statement. `values` are bound in order of their appearance."""

    def __init__(self, table: StoreTable) -> None:
        self.table = table
        self.values: list[Any] = []

    def bind(self, value: Any) -> str:
        self.values.append(value)
        return f"?{len(self.values)}"

    def bind_list(self, values: Sequence[Any]) -> str:
        """Return the SQL between the parentheses of IN for strings and numbers."""
        if len(values) <= SHORT_LIST and len(self.values) < MANY_VALUES:
            return ",".join(map(self.bind, values))
        return f"SELECT value FROM json_each({self.bind(orjson.dumps(values).decode())})"

    def condition(self, node: Filter) -> str:
        """Return a boolean SQL expression. It may be NULL, which means false."""
        if isinstance(node, query.And):
            if len(node.parts) > SHORT_LIST:
                return self.long_conjunction(node)
            return "(" + joined("AND", list(map(self.condition, node.parts))) + ")" if node.parts else "1"
        if isinstance(node, query.Or):
            return self.choice(node) if self.values else self.kept_choice(node)
        if isinstance(node, query.Not):
            return f"({self.condition(node.part)}) IS NOT TRUE"
        if isinstance(node, Leaf):
            return self.leaf(node)
        raise TypeError(f"not a filter: {node!r}")

    def long_conjunction(self, node: query.And) -> str:
        """Return the expression of a long conjunction. Scalars required in one array (`$all`) are searched for
        together, not one by one."""
        required: dict[tuple[str, ...], dict[Any, Filter]] = {}
        others: list[Filter] = []
        for part in node.parts:
            if isinstance(part, query.Equal) and type(part.value) in _SCALARS and not is_column(part.path):
                required.setdefault(part.path, {})[part.value] = part
            else:
                others.append(part)
        if len(others) > WIDEST:
            return self.ask_matcher(node)
        tests = [self.holds_all(path, values) for path, values in required.items()]
        return "(" + joined("AND", [*tests, *map(self.condition, others)]) + ")"

    def holds_all(self, path: tuple[str, ...], parts: dict[Any, Filter]) -> str:
        """Return the condition that the path has each of the values, which are strings and numbers. `parts` maps each
        value to its own condition."""
        if len(parts) <= SHORT_LIST:
            return self.condition(query.And(tuple(parts.values())))
        if self.plain_value(path) is not None:
            return "0"  # a plain path has one value, and several different ones are required
        wanted = self.bind_list(list(parts))
        entered = f"json_each(doc,{json_path(path)}) e WHERE {_OF_SCALARS.format('e.type')} AND e.value IN ({wanted})"
        here = f"(SELECT count(DISTINCT e.value) FROM {entered})={len(parts)}"
        is_array = f"json_type(doc,{json_path(path)})='array'"
        if len(path) == 1:
            return f"({is_array} AND {here})"
        if len(path) > DEEPEST:
            return self.ask_matcher(query.And(tuple(parts.values())))
        ask = self.ask_matcher(query.And(tuple(parts.values())))
        return f"CASE WHEN {arrays_before(path)} THEN {ask} WHEN {is_array} THEN {here} ELSE 0 END"

    def choice(self, node: query.Or) -> str:
        parts = node.parts if len(node.parts) <= SHORT_CHAIN else _gathered(node.parts)
        return "(" + joined("OR", list(map(self.condition, parts))) + ")" if parts else "0"

    def kept_choice(self, node: query.Or) -> str:
        """Return the expression of a disjunction at the beginning of a statement, and keep it where possible.

        The visibility predicate of a principal is there, the same in every request. Compiling it takes longer than
        reading an entity by its id."""
        compiled = self.table.compiled
        try:
            known = compiled.get(node)
        except TypeError:  # an array or object among the operands
            return self.choice(node)
        if known is not None:
            self.values += known[1]
            return known[0]
        sql = self.choice(node)
        if len(self.values) <= MOST_KEPT_VALUES and _is_of_texts(node):
            compiled.add(node, (sql, self.values[:]))
        return sql

    def leaf(self, node: Leaf) -> str:
        if is_column(node.path):
            return self.column(node, COLUMNS[node.path[0]])
        plain = self.plain_value(node.path)
        if plain is not None:
            return self.plain(node, plain)
        if len(node.path) > DEEPEST:
            return self.ask_matcher(node)
        kind, value = f"json_type(doc,{json_path(node.path)})", extract(node.path)
        here = self.at_leaf(node, kind, value)
        if len(node.path) == 1:
            return here
        return f"CASE WHEN {arrays_before(node.path)} THEN {self.ask_matcher(node)} ELSE {here} END"

    def plain_value(self, path: tuple[str, ...]) -> str | None:
        """Return the SQL value of a path that holds only nulls, numbers and strings; None if it may hold other
        types."""
        if is_column(path):
            return COLUMNS[path[0]]
        indexed = self.table.paths.get(".".join(path))
        return extract(path) if indexed and not indexed.mixed else None

    def column(self, node: Leaf, value: str) -> str:
        """Return the condition on a column. Only operands of the column's own type are passed to SQL: SQLite would
        convert others, such as '5' to 5."""
        is_text = node.path[0] in _TEXTS
        own = str if is_text else (int, float)
        match node:
            case query.Exists():
                return "1"
            case query.Equal(value=operand) | query.Compare(value=operand) if operand is not None:
                return self.plain(node, value) if isinstance(operand, own) else "0"
            case query.In(values=operands):
                return self.plain_in(value, [v for v in operands if v is None or isinstance(v, own)])
            case query.StartsWith() if not is_text:
                return "0"
        return self.plain(node, value)

    def plain(self, node: Leaf, value: str) -> str:
        match node:
            case query.Equal(value=operand):
                return self.plain_equal(value, operand)
            case query.In(values=operands):
                return self.plain_in(value, operands)
            case query.Compare(op=op, value=operand):
                return self.plain_compare(value, op, operand)
            case query.Exists():
                return f"json_type(doc,{json_path(node.path)}) IS NOT NULL"  # null has a type, a missing value has none
            case query.StartsWith(text=prefix):
                return self.plain_prefix(value, prefix)
            case query.Contains() | query.ContainsFolded():
                return self.text_test(node, f"typeof({value})", value)
        return "0"  # Size, ElemMatch: there are no arrays

    def plain_equal(self, value: str, operand: Any) -> str:
        if operand is None:
            return f"{value} IS NULL"
        if isinstance(operand, bool | list | dict):
            return "0"
        return f"{value}={self.bind(operand)}"

    def plain_in(self, value: str, operands: Sequence[Any]) -> str:
        scalars = [v for v in operands if v is not None and not isinstance(v, bool | list | dict)]
        tests = [f"{value} IN ({self.bind_list(scalars)})"] if scalars else []
        tests += [f"{value} IS NULL"] if None in operands else []
        return "(" + " OR ".join(tests) + ")" if tests else "0"

    def plain_compare(self, value: str, op: str, operand: Any) -> str:
        if operand is None:
            return f"{value} IS NULL" if op in ("gte", "lte") else "0"
        if isinstance(operand, bool):
            return "0"
        # In SQLite every string is greater than every number: a bound at '' keeps the comparison within the type.
        test = f"{value}{_SQL[op]}{self.bind(operand)}"
        if isinstance(operand, str):
            return test if op in ("gt", "gte") else f"({test} AND {value}>='')"
        return test if op in ("lt", "lte") else f"({test} AND {value}<'')"

    def plain_prefix(self, value: str, prefix: str) -> str:
        above = _after_prefix(prefix)
        upper = f" AND {value}<{self.bind(above)}" if above else ""
        return f"({value}>={self.bind(prefix)}{upper})"

    def at_leaf(self, node: Leaf, kind: str, value: str) -> str:
        match node:
            case query.Exists():
                return f"{kind} IS NOT NULL"
            case query.Size(size=size):
                length = f"json_array_length(doc,{json_path(node.path)})"
                return f"({kind}='array' AND {length}={self.bind(size)})"
            case query.ElemMatch():
                return f"({kind}='array' AND {self.ask_matcher(node)})"
            case query.Equal(value=operand) if isinstance(operand, list | dict):
                return f"({kind} IN ('array','object') AND {self.ask_matcher(node)})"
            case query.In(values=operands) if any(isinstance(v, list | dict) for v in operands):
                return self.ask_matcher(node)
        # `json_each` has the columns `type` and `value`, with the same meaning as `kind` and `value` of the leaf.
        inside = self.scalar_test(node, "e.type", "e.value")
        entered = f"EXISTS(SELECT 1 FROM json_each(doc,{json_path(node.path)}) e WHERE {inside})"
        return f"CASE {kind} WHEN 'array' THEN {entered} ELSE {self.scalar_test(node, kind, value)} END"

    def scalar_test(self, node: Leaf, kind: str, value: str) -> str:
        match node:
            case query.Equal(value=operand):
                return self.equal(kind, value, operand)
            case query.In(values=operands):
                return self.scalar_in(kind, value, operands)
            case query.Compare(op=op, value=operand):
                return self.compare(kind, value, op, operand)
        return self.text_test(node, kind, value)

    def equal(self, kind: str, value: str, operand: Any) -> str:
        if operand is None:
            return f"{value} IS NULL"
        if isinstance(operand, bool):
            return f"{kind}='{str(operand).lower()}'"
        return f"({_of_kind(kind, operand)} AND {value}={self.bind(operand)})"

    def scalar_in(self, kind: str, value: str, operands: Sequence[Any]) -> str:
        scalars = [v for v in operands if v is not None and not isinstance(v, bool)]
        # Without the test of the kind, true would equal 1. In SQLite no string equals a number.
        tests = [f"({_OF_SCALARS.format(kind)} AND {value} IN ({self.bind_list(scalars)}))"] if scalars else []
        others = [v for v in (None, False, True) if any(v is operand for operand in operands)]
        tests += [self.equal(kind, value, other) for other in others]
        return "(" + " OR ".join(tests) + ")" if tests else "0"

    def compare(self, kind: str, value: str, op: str, operand: Any) -> str:
        if operand is None:
            return f"{value} IS NULL" if op in ("gte", "lte") else "0"
        return f"({_of_kind(kind, operand)} AND {value}{_SQL[op]}{self.bind(operand)})"

    def text_test(self, node: Leaf, kind: str, value: str) -> str:
        match node:
            case query.Contains(text=text) if len(text) > LONGEST_SOUGHT:
                return f"({kind}='text' AND hub_contains({value},{self.bind(text)}))"
            case query.Contains(text=text):
                return f"({kind}='text' AND instr({value},{self.bind(text)})>0)"
            case query.ContainsFolded(text=text):
                return f"({kind}='text' AND hub_contains_folded({value},{self.bind(text)}))"
            case query.StartsWith(text=text):
                return f"({kind}='text' AND substr({value},1,{len(text)})={self.bind(text)})"
        raise TypeError(f"not a leaf: {node!r}")

    def ask_matcher(self, node: Filter) -> str:
        return f"hub_match(doc,{self.bind(apsw.pyobject(_on_json(node)))})"


def joined(operator: str, conditions: list[str]) -> str:
    """Return the conditions with AND or OR between them."""
    if len(conditions) <= SHORT_CHAIN:
        return f" {operator} ".join(conditions)
    middle = len(conditions) // 2
    return f"({joined(operator, conditions[:middle])}) {operator} ({joined(operator, conditions[middle:])})"


def arrays_before(path: tuple[str, ...]) -> str:
    """Return the SQL condition that there is an array on the path before its end."""
    return " OR ".join(f"json_type(doc,{json_path(path[:n])})='array'" for n in range(1, len(path)))


def is_column(path: tuple[str, ...]) -> bool:
    """Return whether the path is a system field with a column in the table."""
    return len(path) == 1 and path[0] in COLUMNS


def _gathered(choices: Sequence[Filter]) -> list[Filter]:
    """Return the same choices, with equalities at one path merged into one list (measured: SQLite takes 100 ms to plan
    a thousand equalities over an index, and 1 ms for the list)."""
    values: dict[tuple[str, ...], list[Any]] = {}
    others: list[Filter] = []
    for choice in choices:
        if isinstance(choice, query.Equal):
            values.setdefault(choice.path, []).append(choice.value)
        elif isinstance(choice, query.In):
            values.setdefault(choice.path, []).extend(choice.values)
        else:
            others.append(choice)
    return [*(query.In(path, tuple(found)) for path, found in values.items()), *others]


def _is_of_texts(node: query.Or) -> bool:
    """Return whether all operands are strings. Only such filters can be keys of a dict: in Python 1 equals True, so
    different filters with other operands could be equal."""
    return all(
        isinstance(part, query.Equal | query.In)
        and all(type(v) is str for v in ((part.value,) if isinstance(part, query.Equal) else part.values))
        for part in node.parts
    )


def _of_kind(kind: str, operand: Any) -> str:
    if isinstance(operand, bool):
        return f"{kind} IN ('true','false')"
    return f"{kind}='text'" if isinstance(operand, str) else f"{kind} IN ('integer','real')"


def _on_json(node: Filter) -> Any:
    predicate = compile_filter(node, spend)

    def match(entity: Entity) -> int:
        return int(predicate(entity))

    return match


def _after_prefix(prefix: str) -> str | None:
    """Return the least string greater than every string with this prefix; None when there is none."""
    while prefix:
        code = ord(prefix[-1]) + 1
        if code == 0xD800:
            code = 0xE000  # surrogates are not characters
        if code <= 0x10FFFF:
            return prefix[:-1] + chr(code)
        prefix = prefix[:-1]
    return None
