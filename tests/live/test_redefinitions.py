"""Which changes of a definition alter what is shown of the entities, and so end the views of the store."""

from __future__ import annotations

from typing import Any

import pytest

from realtime.redefinitions import redefined_by, redefines
from stores.field import Field
from stores.records import Change, Entity, HistoryEntry, difference, new_id
from stores.schema import StoreDefinition

INNER: dict[str, Any] = {"id": "city", "type": "Text", "label": "City"}
FIELD: dict[str, Any] = {"id": "address", "type": "Object", "fields": [INNER, {"id": "zip", "type": "Text"}]}


LAST: dict[str, Any] = {"id": "last", "type": "Text"}
SERIAL: dict[str, Any] = {"id": "number", "type": "Serial"}
TO: dict[str, Any] = {"id": "customer", "type": "Reference", "store": "customers"}


def alters_views(before: Entity, after: Entity, *, searched: bool = False) -> bool:
    """Return whether a change of the members of a definition ends views, as the feed and the audit trail tell alike."""
    old, new = ({"_id": "0" * 24, "_rev": 1, "name": "s"} | each for each in (before, after))
    new["_rev"] = 2
    told = redefines(Change("1", "update", "stores", new_id(), old, new, None, 0), searched=searched)
    entry = HistoryEntry(0, None, "update", 2, difference(old, new))
    fields = tuple(Field(each["id"], each["type"]) for each in new.get("fields") or ())
    assert redefined_by(entry, StoreDefinition("s", fields), searched=searched) == told
    return told


def is_redefined(field: dict[str, Any], *, searched: bool = False) -> bool:
    return alters_views({"fields": [FIELD]}, {"fields": [field]}, searched=searched)


@pytest.mark.parametrize(
    "settings", [{"label": "A"}, {"min": 1}, {"max": 1}, {"max_items": 5}, {"distinct": True}, {"options": []}]
)
def test_settings_that_are_not_seen_end_no_view(settings: dict[str, Any]) -> None:
    assert not is_redefined(FIELD | settings)
    assert not is_redefined(FIELD | {"fields": [INNER | settings, FIELD["fields"][1]]})
    assert not is_redefined(FIELD | {"fields": FIELD["fields"][::-1]})


@pytest.mark.parametrize("settings", [{"type": "JSON"}, {"many": True}, {"id": "place"}])
def test_settings_that_are_seen_end_it(settings: dict[str, Any]) -> None:
    assert is_redefined(FIELD | settings)
    assert is_redefined(FIELD | {"fields": [INNER | settings, FIELD["fields"][1]]})


def test_what_is_searched_inside_of_objects_ends_a_search() -> None:
    changed = FIELD | {"fields": [INNER | {"search": True}, FIELD["fields"][1]]}
    assert not is_redefined(changed)
    assert is_redefined(changed, searched=True)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (FIELD, FIELD | {"hidden": False, "many": False}),
        (FIELD, FIELD | {"hidden": None, "many": None}),
        (FIELD | {"fields": [INNER]}, FIELD | {"fields": [INNER | {"many": False}]}),
        (TO, TO | {"on_delete": "refuse", "by": None}),
        (TO, TO | {"on_delete": "clear"}),
        (SERIAL, SERIAL | {"start": 100}),
    ],
)
@pytest.mark.parametrize("searched", [False, True])
def test_defaults_that_are_spelled_out_end_no_view(before: Entity, after: Entity, searched: bool) -> None:
    for old, new in ((before, after), (after, before)):
        assert not alters_views({"fields": [old]}, {"fields": [new]}, searched=searched)
        assert not alters_views({"fields": [LAST, old]}, {"fields": [LAST, new], "open": False}, searched=searched)


EMPTY = dict.fromkeys(["label", "description", "fields", "open", "indexes", "unique", "search", "retired", "pending"])


@pytest.mark.parametrize("definition", [{}, {"fields": []}, {"fields": [FIELD]}, {"fields": [FIELD], "open": True}])
def test_members_without_a_value_end_no_view(definition: Entity) -> None:
    is_open = not definition.get("fields") or bool(definition.get("open"))
    assert not alters_views(definition, EMPTY | definition)
    assert not alters_views(definition, definition | {"search": [], "retired": []}, searched=True)
    assert not alters_views(definition, definition | {"open": is_open})
    assert alters_views(definition, definition | {"open": not is_open})
    assert alters_views(definition, definition | {"fields": [*definition.get("fields", []), SERIAL]})


def test_fields_that_close_the_store_end_views() -> None:
    assert alters_views({}, {"fields": [FIELD]})
    assert alters_views({"fields": [FIELD]}, {"fields": []})
    assert alters_views({"fields": [FIELD]}, {"fields": [FIELD], "retired": ["pin"]})


def test_the_beginning_of_a_change_in_steps_ends_views() -> None:
    begun, further = {"pending": {"done": 0}}, {"pending": {"done": 200}}
    definition = {"fields": [FIELD]}
    assert alters_views(definition, definition | begun)
    assert alters_views(definition | {"pending": None}, definition | begun)
    assert not alters_views(definition | begun, definition | further)
    assert not alters_views(definition | further, definition | {"pending": None})
