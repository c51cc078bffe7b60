"""Filters, list parameters, cursors, positions and definitions: accepted input works on both engines, and other input
is refused with the documented error."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth.policy import authorize, rights_digest
from auth.positions import unbind
from auth.principal import Principal
from hub.dialects.platform.parameters import ListParameters
from hub.http.errors import BadRequest
from stores.cursor import decode_cursor
from stores.definitions import parse_definition
from stores.errors import HistoryGone, InvalidEntity, InvalidQuery
from stores.limits import EntityLimits, check_document, parse_json
from stores.matcher import matches
from stores.mongo.compile import compile_filter as compile_mongo
from stores.parse import FilterLimits, parse_filter, parse_only, parse_sort
from stores.query import CREATION_ORDER, Filter
from stores.schema import StoreDefinition
from stores.sqlite.compile import Compiler
from stores.sqlite.tables import StoreTable

pytestmark = pytest.mark.generated

OPERATORS = [
    "$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$exists", "$contains", "$startswith", "$and", "$or",
    "$nor", "$not", "$all", "$size", "$elemMatch", "$where", "$expr", "$regex", "$", "$$",
]  # fmt: skip
NAMES = ["a", "a.b", "a.0", ".", "a.", "", "_id", "owner", "password", "é", "\0", "x" * 300, "__proto__"]
IDS = ["5f00000000000000000000a1", "5F00000000000000000000A1", "5f"]

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from([*IDS, *OPERATORS])
)
keys = st.sampled_from([*OPERATORS, *NAMES]) | st.text(max_size=4)
documents: st.SearchStrategy[Any] = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=12
)
deep = st.integers(1, 400).map(lambda depth: nested(depth))

DEFINITION = parse_definition({"name": "a", "open": True, "fields": [
    {"id": "n", "type": "Number"}, {"id": "t", "type": "Text", "search": True}, {"id": "d", "type": "Date"},
    {"id": "h", "type": "Text", "hidden": True},
]})  # fmt: skip
PRINCIPAL = Principal(
    user_id=IDS[0], login="a", group=None, branch=(), roles=(), admin=False, role_scopes=None, token_scopes=None,
    kind="token", credential_id=IDS[0], expires=2**62,
)  # fmt: skip
VIEW = authorize(PRINCIPAL, DEFINITION, "GET")
ENTITY = {"_id": IDS[0], "a": [{"b": 1}, [2]], "n": 1, "t": "x", "owner": IDS[0], "access": [], "time": 1}


def nested(depth: int) -> dict[str, Any]:
    filter: dict[str, Any] = {"a": 1}
    for level in range(depth):
        filter = {"$and": [filter]} if level % 2 else {"a": {"$elemMatch": filter}}
    return filter


def carried_out(where: Filter) -> None:
    """Check that both compilers and the matcher accept the filter."""
    compiler = Compiler(StoreTable("a"))
    assert compiler.condition(where)
    compile_mongo(where)
    assert matches(where, ENTITY) in (True, False)


@given(documents | deep)
def test_filters(document: Any) -> None:
    try:
        where = parse_filter(document, VIEW.check_path, FilterLimits())
    except InvalidQuery:
        return
    carried_out(where)


names = st.sampled_from(
    ["filter", "limit", "offset", "sort", "only", "search", "from", "to", "begin", "end", "meta", "after", "since", "n",
     "t", "d", "h", "n[gt]", "t[contains]", "d[in]", "a.b[exists]", "n[]", "[gt]", "a[$gt]", "_id", "owner", "zz"]
)  # fmt: skip
texts = st.text(max_size=12) | st.sampled_from(["1", "-1", "true", "2026-01-31", "2026-01-31T12:00:00+02:00", *IDS])
jsons = documents.map(lambda value: orjson.dumps(value, default=str).decode() if encodable(value) else "{")


def encodable(value: Any) -> bool:
    try:
        orjson.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


@given(st.lists(st.tuples(names | st.text(max_size=6), texts | jsons), max_size=5))
def test_list_parameters(pairs: list[tuple[str, str]]) -> None:
    """Any query string is accepted or refused with InvalidQuery."""
    try:
        request = ListParameters(VIEW, pairs, FilterLimits(), 10_000).read()
    except (InvalidQuery, BadRequest):
        return
    carried_out(request.where)
    assert 0 <= request.query.limit <= 10_000


@given(st.text(max_size=40) | st.binary(max_size=40).map(lambda b: b.hex()))
def test_sorts_projections_and_cursors(text: str) -> None:
    for parse in (parse_sort, parse_only, lambda text: decode_cursor(text, CREATION_ORDER)):
        try:
            assert parse(text)
        except InvalidQuery:
            pass


@given(st.text(max_size=40) | st.from_regex(r"[0-9a-f]{8}\.[0-9]{1,20}~[0-9a-f]{10}", fullmatch=True))
def test_positions(text: str) -> None:
    """A position that was not issued to this principal is refused."""
    with pytest.raises(HistoryGone):
        unbind(text, rights_digest(PRINCIPAL))


@given(st.dictionaries(st.sampled_from(["name", "fields", "open", "indexes", "unique", "search", "x"]), documents))
def test_definitions(document: dict[str, Any]) -> None:
    try:
        assert isinstance(parse_definition(document), StoreDefinition)
    except InvalidEntity:
        pass


@given(st.binary(max_size=60) | documents.filter(encodable).map(orjson.dumps))
def test_bodies(body: bytes) -> None:
    """A body is JSON within the limits of an entity, or refused with an error."""
    try:
        value = parse_json(body)
    except (ValueError, InvalidEntity):
        return
    if isinstance(value, dict):
        for violation in check_document(value, EntityLimits()):
            assert violation.rule
