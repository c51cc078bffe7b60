"""The parameters of a list: filters in three notations, period, order and projection, typed by the store's schema."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote, quote_plus

from auth.view import View
from hub.dialects.platform.expand import parse_expand
from hub.services.expansion import MOST_EXPANDED
from hub.services.expansion_plan import Expand
from hub.services.times import parse_time
from stores import query
from stores.aggregation import MOST_GROUPS, Aggregation
from stores.bounds import Limit
from stores.cursor import decode_cursor
from stores.errors import InvalidQuery
from stores.fields.base import parse_number, parse_text
from stores.limits import parse_exactly
from stores.parse import FilterLimits, FilterParser, check_folded, parse_only, parse_path, parse_sort, scalar
from stores.parse_aggregation import parse_dimensions, parse_group_sort, parse_measures
from stores.query import Filter, Projection, Query, Sort
from stores.records import SYSTEM_NUMBERS, Json

Pairs = list[tuple[str, str]]

RESERVED = (
    "offset", "limit", "only", "meta", "from", "to", "begin", "end", "filter", "sort", "after", "search", "since",
    "upsert", "all", "expand", "aggregate",
)  # fmt: skip
"""Names with a special meaning. Filter a field of such a name with ``from[eq]=x`` or in `filter`."""

BESIDE_AGGREGATE = ("by",)
"""Names with a special meaning beside `aggregate`: `expand` is refused there."""

OPERATORS = {
    "eq": "$eq", "ne": "$ne", "gt": "$gt", "gte": "$gte", "lt": "$lt", "lte": "$lte", "in": "$in", "nin": "$nin",
    "exists": "$exists", "contains": "$contains", "startswith": "$startswith",
}  # fmt: skip

_NOT_BESIDE_EXPAND: Mapping[str, str] = {
    "since": "a change shows the entity itself; follow the changes of the other store too",
    "meta": "it does not list entities",
    "aggregate": "groups are no entities",
}

MOST_CURSOR: Annotated[int, Limit("link", "characters of a cursor", "a link by `offset`")] = 2_048
"""Characters of a cursor in a link. The sort key of an entity may have megabytes, but heads are short."""

_BRACKETS = re.compile(r"([^\[\]]+)\[([^\[\]]*)\]\Z", re.DOTALL)
_PLAIN = re.compile(r"[A-Za-z0-9_.~-]*\Z")
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_.~/-]*\Z")
_SYSTEM_TEXTS = ("_id", "owner", "group", "access", "branch")


@dataclass(frozen=True, slots=True)
class ListRequest:
    """The parsed parameters. `given` are the names of reserved parameters in the request; `all` selects every entity;
    `searched`: `where` contains a search. With `expand`, `projection` shows everything: `only` is a part of `expand`.
    With `aggregation`, `query` has no sort.
    """

    where: Filter
    all: bool
    query: Query
    projection: Projection
    meta: bool
    since: str | None
    limit: int | None
    given: frozenset[str]
    searched: bool
    expand: Expand | None
    aggregation: Aggregation | None


class ListParameters:
    """Parses the parameters of one request. `most` is the largest page."""

    def __init__(self, view: View, pairs: Pairs, limits: FilterLimits, most: int) -> None:
        self.view = view
        self.definition = view.definition
        self.most = most
        # One parser for all conditions: its bounds apply to the whole request.
        self.parser = FilterParser(view.check_path, limits, view.field_at)
        aggregates = any(name == "aggregate" for name, _ in pairs)
        reserved = (*RESERVED, *BESIDE_AGGREGATE) if aggregates else RESERVED
        self.single = _single([p for p in pairs if p[0] in reserved])
        self.conditions = [p for p in pairs if p[0] not in reserved]

    def read(self) -> ListRequest:
        """Parse all parameters. Raises InvalidQuery that names the wrong parameter."""
        single = self.single
        limit, expand = self.natural("limit"), self.expand()
        most = self.most if expand is None else min(self.most, MOST_EXPANDED)
        where = self.where()
        aggregation = self.aggregation(limit) if "aggregate" in single else None
        sort: tuple[Sort, ...] = query.CREATION_ORDER
        if "sort" in single and aggregation is None:
            sort = parse_sort(single["sort"], self.view.check_path)
        return ListRequest(
            where=where,
            all=self.flag("all"),
            query=Query(
                where=where,
                sort=sort,
                offset=self.natural("offset") or 0,
                limit=most if limit is None else min(limit, most),
                after=decode_cursor(single["after"], sort) if "after" in single else None,
            ),
            projection=self.projection() if expand is None else query.WHOLE,
            meta=self.flag("meta"),
            since=single.get("since"),
            limit=limit,
            given=frozenset(single),
            searched=bool(single.get("search")),
            expand=expand,
            aggregation=aggregation,
        )

    def aggregation(self, limit: int | None) -> Aggregation:
        single, check = self.single, self.view.check_path
        measures = parse_measures(single["aggregate"], check, self.definition.is_decimal)
        by = parse_dimensions(single["by"], check) if "by" in single else ()
        sort = parse_group_sort(single["sort"], measures, by) if "sort" in single else ()
        return Aggregation(measures, by, sort, MOST_GROUPS if limit is None else limit)

    def projection(self) -> Projection:
        only = self.single.get("only")
        return query.WHOLE if only is None else Projection(parse_only(only, self.view.check_path))

    def expand(self) -> Expand | None:
        text = self.single.get("expand")
        return None if text is None else parse_expand(text, self.single.get("only"))

    def where(self) -> Filter:
        parts = [self.condition(name, value) for name, value in self.conditions]
        parts += self.period()
        if "filter" in self.single:
            parts.append(self.parser.document(self.filter_document(), 0))
        if "search" in self.single:
            parts += self.search(self.single["search"])
        return parts[0] if len(parts) == 1 else query.And(tuple(parts))

    def filter_document(self) -> object:
        try:
            return parse_exactly(self.single["filter"])
        except ValueError as error:
            raise InvalidQuery("filter", f"filter is not JSON: {error}") from None

    def search(self, text: str) -> list[Filter]:
        """Return the filter of a search. An empty text, as an empty search box sends it, matches everything: no
        filter. Raises InvalidQuery."""
        paths = self.view.search_paths
        if not paths:
            raise InvalidQuery("search", f"{self.definition.name} has no searchable fields")
        check_folded("search", text)
        if not text:
            return []
        return [query.Or(tuple(query.ContainsFolded(tuple(p.split(".")), text) for p in paths))]

    def period(self) -> Iterable[Filter]:
        for names, op in ((("from", "begin"), "gte"), (("to", "end"), "lte")):
            given = [n for n in names if n in self.single]
            if len(given) == 2:
                raise InvalidQuery(given[1], f"{given[0]} and {given[1]} mean the same: send one")
            for name in given:
                yield query.Compare(("time",), op, self.time(name, self.single[name]))  # type: ignore[arg-type]

    def time(self, name: str, text: str) -> int:
        try:
            # A plus sign that was not percent-encoded arrives as a space.
            return parse_time(text.replace(" ", "+") if "T" in text else text)
        except (ValueError, OverflowError):
            raise InvalidQuery(name, f"{name} takes Unix milliseconds or an ISO 8601 time") from None

    def natural(self, name: str) -> int | None:
        return natural(self.single, name)

    def flag(self, name: str) -> bool:
        text = self.single.get(name, "false")
        if text not in ("true", "false"):
            raise InvalidQuery(name, f"{name} takes true or false")
        return text == "true"

    def condition(self, name: str, text: str) -> Filter:
        """Parse one ``field=value`` or ``field[op]=value``. Raises InvalidQuery."""
        found = _BRACKETS.match(name)
        if not found and ("[" in name or "]" in name):
            raise InvalidQuery(name, "brackets hold an operator behind a field: field[gt]=value")
        path_text, op = (found[1], found[2]) if found else (name, "eq")
        if op not in OPERATORS:
            raise InvalidQuery(name, f"unknown operator [{op}]")
        path = parse_path(path_text, self.view.check_path)
        return self.parser.operator(path, OPERATORS[op], self.operand(path_text, op, text), 0)

    def operand(self, path: str, op: str, text: str) -> Json:
        if op == "exists":
            if text not in ("true", "false"):
                raise InvalidQuery(path, f"{path}[exists] takes true or false")
            return text == "true"
        if op in ("contains", "startswith"):
            return text
        if op in ("in", "nin"):
            items = _split(path, text, self.parser.limits.items + 1)
            self.parser.check_length(OPERATORS[op], len(items))  # before the costly part
            return [self.typed(path, item) for item in items]
        return self.typed(path, text)

    def typed(self, path: str, text: str) -> Json:
        """Return the value of a parameter's text, by the type of the field at this path. Raises InvalidQuery."""
        if path in _SYSTEM_TEXTS:
            return parse_text(text)
        field = self.view.field_at(path.split("."))
        try:
            if path in SYSTEM_NUMBERS:
                return parse_number(text)
            return field.parse(text) if field else scalar(text)
        except ValueError as error:
            raise InvalidQuery(path, f"{path} takes {error}") from None


def _single(pairs: Pairs) -> dict[str, str]:
    values: dict[str, str] = {}
    for name, value in pairs:
        if name in values:
            raise InvalidQuery(name, f"{name} was sent twice")
        values[name] = value
    return values


_ITEM = re.compile(r'(?:("[^"]*(?:""[^"]*)*")|((?!")[^,]*))(,|\Z)')


def _split(path: str, text: str, most: int) -> list[str]:
    """Split comma-separated items, the first `most`. An item with a comma must be quoted; inside quotes, a quote is
    doubled.

    The outer quotes are kept: they mark a string. Raises InvalidQuery for quotes that do not enclose a whole item.
    """
    items: list[str] = []
    at = 0
    while found := _ITEM.match(text, at):
        items.append(found[2] if found[1] is None else '"' + found[1][1:-1].replace('""', '"') + '"')
        if not found[3] or len(items) == most:
            return items
        at = found.end()
    raise InvalidQuery(path, f'{path}: quotes enclose a whole item, and a quote in it is written twice ("")')


def natural(known: Mapping[str, str], name: str) -> int | None:
    """Return a parameter's non-negative integer, or None without it. Raises InvalidQuery."""
    text = known.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise InvalidQuery(name, f"{name} takes a whole number from 0")
    return int(text)


def next_link(path: str, pairs: Pairs, cursor: str) -> str:
    """Return the Link header of the next page: the same request, from `cursor` on."""
    return _link(path, [*_without(pairs, "after", "offset"), ("after", cursor)])


def next_list_link(path: str, pairs: Pairs, page: Query, cursor: str) -> str:
    """Return the Link header of the next page of a list. In place of a cursor that is too long for a header it has the
    offset."""
    if len(cursor) <= MOST_CURSOR:
        return next_link(path, pairs, cursor)
    return _link(path, [*_without(pairs, "offset"), ("offset", str(page.offset + page.limit))])


def _without(pairs: Pairs, *names: str) -> Pairs:
    return [pair for pair in pairs if pair[0] not in names]


def _link(path: str, pairs: Pairs) -> str:
    query_string = "&".join(f"{_quoted(name)}={_quoted(value)}" for name, value in pairs)
    return f'<{path if _PLAIN_PATH.match(path) else quote(path)}?{query_string}>; rel="next"'


def _quoted(text: str) -> str:
    return text if _PLAIN.match(text) else quote_plus(text)


def refuse_given(request: ListRequest, names: Iterable[str], reason: str) -> None:
    """Raise InvalidQuery for the first of `names` in the request."""
    for name in names:
        if name in request.given:
            raise InvalidQuery(name, f"{name} {reason}")


def refuse_beside_expand(request: ListRequest) -> None:
    """Raise InvalidQuery for `expand` in a request for something else than entities."""
    if request.expand is None:
        return
    for name, reason in _NOT_BESIDE_EXPAND.items():
        if name in request.given and (name != "meta" or request.meta):
            raise InvalidQuery("expand", f"expand cannot be used together with {name}: {reason}")


def known_parameters(pairs: Pairs, known: Iterable[str]) -> dict[str, Any]:
    """Return the parameters of a call that supports only `known`. Raises InvalidQuery for any other."""
    for name, _ in pairs:
        if name not in known:
            raise InvalidQuery(name, f"unknown parameter {name}")
    return _single(pairs)
