"""Which changes of a definition alter what is shown of the entities, and so end the views of the store."""

from __future__ import annotations

from typing import Any

import pytest

from realtime.view import redefines
from stores.records import Change, new_id

INNER: dict[str, Any] = {"id": "city", "type": "Text", "label": "City"}
FIELD: dict[str, Any] = {"id": "address", "type": "Object", "fields": [INNER, {"id": "zip", "type": "Text"}]}


def is_redefined(field: dict[str, Any], *, searched: bool = False) -> bool:
    before, after = ({"_id": "0" * 24, "name": "s", "fields": [each]} for each in (FIELD, field))
    change = Change("1", "update", "stores", new_id(), before, after, None, 0)
    return redefines(change, searched=searched)


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
