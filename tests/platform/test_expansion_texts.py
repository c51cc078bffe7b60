"""The texts of expanded entities: equal, byte for byte, whether a page is short, is counted, or is kept as texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

import orjson
import pytest

from hub.dialects.platform.expand import parse_expand
from hub.services import expansion
from hub.services.expansion import Expansions
from hub.services.registry import StoreRegistry
from stores.field import Field
from stores.long_lists import LongLists
from stores.protocol import Engine, Insert
from stores.query import Query
from stores.records import Entity, new_id
from stores.schema import StoreDefinition
from tests.support.entities import entity
from tests.support.principals import user
from tests.support.registries import FixedRegistry

TARGETS: Final = StoreDefinition("targets", (Field("code", "Number", unique=True),))
SOURCES: Final = StoreDefinition(
    "sources",
    (
        Field("to", "Reference", store="targets"),
        Field("code", "Reference", store="targets", by="code"),
        Field("several", "Reference", store="targets", many=True),
    ),
)
STORES: Final = {definition.name: definition for definition in (TARGETS, SOURCES)}
ADMIN: Final = user(admin=True)

A, B = entity(code=5, note='é"\\', large=2**53), entity(code=6, nested={"to": [1.0, None, {"code": 5}]})
UNKNOWN: Final = new_id()

REGULAR: Final[list[dict[str, Any]]] = [
    {"to": A["_id"], "code": 5},
    {"nested": {"to": A["_id"], "code": 6}, "code": 6, "to": A["_id"]},
    {"to": None, "note": '"to":"x",{"code":5}'},
    {"to": UNKNOWN, "code": 7},
    {"note": "refers to nothing", "several": []},
    {"code": None, "to": B["_id"]},
]
BEFORE_THE_DEFINITION: Final[list[dict[str, Any]]] = [
    {"to": [A["_id"], None, UNKNOWN, [B["_id"]]], "code": [5, "5", 6]},
    {"to": True, "code": False},
    {"to": 5, "code": "5"},
    {"to": {"to": A["_id"]}, "code": 5.5},
]
SEVERAL: Final[list[dict[str, Any]]] = [{"several": [A["_id"], B["_id"], A["_id"]]}, {"several": [UNKNOWN]}]


def shown(value: Any, by: str) -> Any:
    """Return a field with targets in the place of references."""
    if isinstance(value, list):
        return [shown(each, by) for each in value]
    if not isinstance(value, str | int) or isinstance(value, bool):
        return value
    return next((each for each in (A, B) if each[by] == value), {by: value})


@pytest.mark.parametrize("way", ["short", "counted", "as texts"])
@pytest.mark.parametrize(
    ("bodies", "is_regular"),
    [(REGULAR, True), (REGULAR + BEFORE_THE_DEFINITION, False), (REGULAR + SEVERAL, False), ([], True)],
    ids=["regular", "before", "several", "empty"],
)
async def test_pages_are_written_alike(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, bodies: Sequence[Entity], is_regular: bool, way: str
) -> None:
    await engine.define(TARGETS, SOURCES)
    sources = [entity(**body, time=number) for number, body in enumerate(bodies)]
    await engine.commit([*(Insert("targets", each) for each in (A, B)), *(Insert("sources", e) for e in sources)], None)
    if way == "counted":
        monkeypatch.setattr(expansion, "LARGE", 0)
    if way == "as texts":
        monkeypatch.setattr(expansion, "SMALL", 0)
    fields = {"to": "_id", "code": "code"} | ({"several": "_id"} if bodies and not is_regular else {})
    expansions = Expansions(engine, cast("StoreRegistry", FixedRegistry(STORES.values())), LongLists(1))
    page = await expansions.find(ADMIN, "sources", Query(limit=100), parse_expand(",".join(fields), None))
    plain = (await engine.find("sources", Query(limit=100))).body
    assert isinstance(plain, bytes)
    expected = [
        {name: shown(value, fields[name]) if name in fields else value for name, value in each.items()}
        for each in orjson.loads(plain)
    ]
    whole = page.body if isinstance(page.body, bytes) else b"[" + b",".join(page.body) + b"]"
    assert whole == orjson.dumps(expected)
    assert way != "short" or isinstance(page.body, bytes) == is_regular
