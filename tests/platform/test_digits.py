"""Names of fields that Python calls digits, and a database does not."""

from __future__ import annotations

from typing import Any

import pytest

from stores.definitions import parse_definition
from stores.sqlite.structure import Layout
from tests.platform.answers import good
from tests.support.hub import Client, Hub

MEMBERS: list[dict[str, Any]] = [{"id": "²", "type": "DateTime"}, {"id": "٣", "type": "Reference", "store": "users"}]
FIELDS: list[dict[str, Any]] = [
    {"id": "²", "type": "Number", "index": True},
    {"id": "lines", "type": "Object", "many": True, "fields": MEMBERS},
]


async def test_such_a_field_is_sorted_by_aggregated_and_filtered(hub: Hub, user: Client) -> None:
    """It may be indexed, too. Values inside of lists have their type at such a path."""
    store = await hub.define(fields=FIELDS, indexes=["lines.²"])
    await user.make_all(store, [{"²": n, "lines": [{"²": f"2020-11-26 0{n}:00:00"}]} for n in (2, 1, 3)])
    assert [entity["²"] for entity in await user.list(store, {"sort": "²"})] == [1, 2, 3]
    assert [entity["²"] for entity in await user.list(store, {"sort": "-lines.²"})] == [3, 2, 1]
    groups = good(await user.get(f"/{store}", {"aggregate": "sum:²", "by": "lines.²"}))["groups"]
    assert sorted(group["sum"]["²"] for group in groups) == [1, 2, 3]
    assert [e["²"] for e in await user.list(store, {"lines.²": "2020-11-26T01:00:00Z"})] == [1]


@pytest.mark.engine("sqlite")
def test_references_at_such_a_path_are_indexed() -> None:
    assert Layout.of(parse_definition({"name": "s", "fields": FIELDS})).listed == {"lines.٣"}
