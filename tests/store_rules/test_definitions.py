"""Definitions of stores with a purpose: only the hub sets it, every change keeps it, and what the API needs stays."""

from __future__ import annotations

from typing import Any

import pytest

from stores.records import Entity
from tests.platform.answers import definition_of, good, refused
from tests.support.hub import Client, Hub, unique


@pytest.fixture
async def tenures(admin: Client) -> Entity:
    found: Entity = good(await admin.get(await definition_of(admin, "tenures")))
    return found


async def test_a_purpose_is_shown_and_cannot_be_sent(hub: Hub, admin: Client, tenures: Entity) -> None:
    assert tenures["purpose"] == "listings.reference.tenures"
    for purpose in ("listings.properties", "mine", 5):
        refused(await admin.post("/stores", {"name": unique("s"), "purpose": purpose}), 400, "purpose")
    plain = await definition_of(admin, await hub.define(purpose=None))
    for path in (plain, f"/stores/{tenures['_id']}"):
        for body in ({"purpose": "listings.images"}, {"$set": {"purpose": "x"}}):
            refused(await admin.patch(path, body), 400, "purpose")
        refused(await admin.put(path, {"name": "tenures", "purpose": "x"}), 400, "purpose")
    refused(await admin.patch(f"/stores/{tenures['_id']}", {"purpose": None}), 400, "purpose")
    refused(await admin.patch(f"/stores/{tenures['_id']}", {"$unset": {"purpose": ""}}), 400, "purpose")


async def test_a_purpose_stays(admin: Client, tenures: Entity) -> None:
    path = f"/stores/{tenures['_id']}"
    sent = {name: value for name, value in tenures.items() if name != "success"}
    assert good(await admin.patch(path, {"label": "L", "purpose": tenures["purpose"]}))["purpose"] == tenures["purpose"]
    assert good(await admin.put(path, sent))["purpose"] == tenures["purpose"]
    without = {name: value for name, value in sent.items() if name != "purpose"}
    assert good(await admin.put(path, without))["purpose"] == tenures["purpose"]
    more = [*tenures["fields"], {"id": unique("f"), "type": "Text"}]
    assert good(await admin.patch(path, {"fields": more}))["purpose"] == tenures["purpose"]
    good(await admin.patch(path, {"fields": tenures["fields"]}))


@pytest.mark.parametrize(
    "change",
    [
        lambda fields: [each for each in fields if each["id"] != "name"],
        lambda fields: [each | {"type": "Textarea"} if each["id"] == "name" else each for each in fields],
        lambda fields: [{**each, "unique": False} for each in fields],
    ],
)
async def test_the_fields_that_the_api_needs_stay(admin: Client, tenures: Entity, change: Any) -> None:
    path = f"/stores/{tenures['_id']}"
    errors = refused(await admin.patch(path, {"fields": change(tenures["fields"])}), 400, "fields")
    assert "listings API" in errors["fields"][0]
    labelled = [each | {"label": "L", "required": False} for each in tenures["fields"]]
    good(await admin.patch(path, {"fields": labelled}))
    good(await admin.patch(path, {"fields": tenures["fields"]}))
