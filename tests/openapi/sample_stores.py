"""Stores of every kind, for the document and for schemathesis to write to."""

from __future__ import annotations

from typing import Any, Final

from stores.fields import FIELD_TYPES

OPTIONS: Final = [{"id": 1, "name": "One"}, {"id": "two", "name": "Two"}]

MEMBERS: Final = [
    {"id": "city", "type": "Text", "required": True},
    {"id": "floor", "type": "Number", "min": -5, "max": 200},
    {"id": "mails", "type": "Email", "many": True},
]
NEEDED: Final[dict[str, Any]] = {"options": OPTIONS, "fields": MEMBERS, "store": "users"}

ONE_OF_EACH: Final[list[dict[str, Any]]] = [
    {"id": f"a{kind}", "type": kind, "label": kind} | {name: NEEDED[name] for name in each.needs}
    for kind, each in FIELD_TYPES.items()
]

CLOSED: Final = {
    "name": "products",
    "fields": [
        *ONE_OF_EACH,
        {"id": "name", "type": "Text", "required": True, "search": True, "length": 40},
        {"id": "sku", "type": "Text", "unique": True},
        {"id": "stock", "type": "Number", "required": True, "default": 3},
        {"id": "limit (kg)", "type": "Numeric", "min": 0},
        {"id": "sizes", "type": "Number", "options": [{"id": 1, "name": "S"}, {"id": 2, "name": "L"}]},
        {"id": "tags", "type": "Text", "many": True, "max_items": 5, "distinct": True, "min": 1},
        {"id": "secret", "type": "Text", "hidden": True},
    ],
}
OPEN: Final = {
    "name": "mixed",
    "open": True,
    "fields": [{"id": "title", "type": "Text", "search": True}, {"id": "secret", "type": "Text", "hidden": True}],
    "unique": ["code", "nested.code"],
}
SCHEMALESS: Final = {"name": "notes"}

ANY: Final = "anything"
"""The store for calls of the generic paths only."""

STORES: Final = ({"name": ANY}, CLOSED, OPEN, SCHEMALESS)
