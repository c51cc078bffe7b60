"""JSON Schemas for fields of system stores whose hooks demand more than the field type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from auth import hostnames, mailboxes
from auth.system_stores import MOST_KEY_ORIGINS, SECOND_FACTORS, SESSIONS, SIGNINS
from hub.openapi.schemas import Schema
from stores.data_definitions import LARGEST_STEP
from stores.field_definitions import MAX_FIELDS
from stores.fields import FIELD_TYPES, TEXTAREA_LENGTH
from stores.fields.lists import LARGEST_MAX_ITEMS
from stores.fields.numbers import DIGITS
from stores.fields.references import LARGEST_START
from stores.index_definitions import MOST_INDEX_CONDITIONS, MOST_INDEX_FIELDS, MOST_INDEX_VALUES
from stores.parse import MOST_SEGMENTS
from stores.records import WRITER_FIELD
from stores.relation import ON_DELETE

ID: Final[Schema] = {"$ref": "#/components/schemas/Id"}
_TEXT: Final[Schema] = {"type": "string"}
_FLAG: Final[Schema] = {"type": "boolean"}
_SEGMENT: Final = r"(?![0-9]+(\.|$))[^.$\x00][^.\x00]*"
_DOTTED: Final = rf"(?!{WRITER_FIELD}(\.|$)){_SEGMENT}(\.{_SEGMENT}){{0,{MOST_SEGMENTS - 1}}}"
_PATH: Final[Schema] = {"type": "string", "pattern": f"^{_DOTTED}$"}
_PATHS: Final[Schema] = {"type": "array", "items": _PATH}
_INDEX_FIELDS: Final[Schema] = {
    "type": "array",
    "items": {"type": "string", "pattern": rf"^(-|(?!-)){_DOTTED}$"},
    "minItems": 1,
    "maxItems": MOST_INDEX_FIELDS,
    "uniqueItems": True,
    "description": "Paths of one index; `-` before a path: descending",
    "examples": [["status", "-price"]],
}
_SCALAR: Final[Schema] = {"type": ["string", "number", "boolean", "null"]}
_BOUND: Final[Schema] = {"type": ["string", "number"]}
_INDEX_CONDITION: Final[Schema] = {
    "anyOf": [
        _SCALAR,
        {
            "type": "object",
            "properties": {
                "$eq": _SCALAR,
                "$in": {"type": "array", "items": _SCALAR, "minItems": 1, "maxItems": MOST_INDEX_VALUES},
                "$exists": {"const": True},
                **dict.fromkeys(("$gt", "$gte", "$lt", "$lte"), _BOUND),
            },
            "minProperties": 1,
            "additionalProperties": False,
        },
    ]
}
_INDEX: Final[Schema] = {
    "type": "object",
    "required": ["fields"],
    "properties": {
        "fields": _INDEX_FIELDS,
        "unique": _FLAG | {"description": "Whether no two entities may have the same values"},
        "where": {
            "type": "object",
            "propertyNames": {"pattern": rf"^(?!_(id|rev|at)$){_DOTTED}$"},
            "additionalProperties": _INDEX_CONDITION,
            "description": f"The entities that the index covers; at most {MOST_INDEX_CONDITIONS} conditions",
        },
    },
    "additionalProperties": False,
}
_SCOPES: Final[Schema] = {
    "type": "array",
    "maxItems": 1_000,
    "items": {
        "type": "string",
        "pattern": r"^(GET|POST|PATCH|PUT|DELETE|\*) +/?([A-Za-z][A-Za-z0-9_-]*|\*)(/\*)?$",
        "examples": ["GET /readings/*"],
    },
}

_EXPIRY: Final[Schema] = {
    "anyOf": [
        {"type": "integer", "minimum": 0, "maximum": 2**53 - 1},
        {"type": "string", "format": "date-time"},
    ],
    "description": "Unix milliseconds; requests may also send an ISO 8601 time; null: never",
}

_REFINED: Final[Mapping[tuple[str, str], Schema]] = {
    ("users", "roles"): {"type": "array", "items": ID, "maxItems": 100},
    ("groups", "parent"): ID,
    ("roles", "scopes"): _SCOPES,
    ("tokens", "scopes"): _SCOPES | {"description": "What the token may do; null: all that its user may do"},
    ("tokens", "expires"): _EXPIRY,
    ("tokens", "user"): ID,
    ("keys", "expires"): _EXPIRY,
    ("keys", "user"): ID,
    ("keys", "allowed_origins"): {
        "type": "array",
        "maxItems": MOST_KEY_ORIGINS,
        "items": {"type": "string", "pattern": hostnames.PATTERN, "examples": [hostnames.EXAMPLE]},
        "description": "Hostnames whose pages may use a key that reads; empty: all",
    },
    ("stores", "name"): {"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_-]{0,62}$"},
    ("stores", "open"): _FLAG | {"description": "Whether it accepts fields besides those defined"},
    ("stores", "indexes"): {"type": "array", "items": {"anyOf": [_PATH, _INDEX_FIELDS, _INDEX]}},
    ("stores", "unique"): _PATHS,
    ("stores", "search"): _PATHS,
}


def refined(key: tuple[str, str]) -> Schema | None:
    """Return the schema that replaces the type's for a field of a system store, given as (store, name), or None."""
    if key == ("stores", "fields"):
        return {"type": "array", "items": _defined_field(), "maxItems": MAX_FIELDS}
    return _REFINED.get(key)


def _defined_field(*, is_member: bool = False) -> Schema:
    """Return the schema of a field in a definition, or of one inside of an object. Built on demand: types may be
    registered after the import."""
    members: Schema = {"type": "object", "required": ["id", "type"]} if is_member else _defined_field(is_member=True)
    bound = {"type": ["number", "string", "null"]}
    return {
        "type": "object",
        "required": ["id", "type"],
        "properties": {
            "id": {"type": "string", "pattern": r"^[^$_.][^.]*$"},
            "type": {"enum": list(FIELD_TYPES)},
            "label": _TEXT,
            "required": _FLAG,
            "unique": _FLAG,
            "index": _FLAG,
            "search": _FLAG,
            "hidden": _FLAG | {"description": "Can be written, but is never shown"},
            "length": {"type": "integer", "minimum": 1, "maximum": TEXTAREA_LENGTH},
            "min": bound | {"description": "The least value of a number, date or time; the least length of a text"},
            "max": bound | {"description": "The greatest value or length"},
            "digits": {"type": "integer", "minimum": 1, "maximum": DIGITS, "description": "Of a Numeric: all digits"},
            "places": {"type": "integer", "minimum": 0, "maximum": DIGITS, "description": "Those after the point"},
            "many": _FLAG | {"description": "Values are lists"},
            "max_items": {"type": "integer", "minimum": 1, "maximum": LARGEST_MAX_ITEMS},
            "distinct": _FLAG | {"description": "No value is in the list twice"},
            "fields": {"type": "array", "items": members, "description": "Of an Object: its fields"},
            "options": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["id", "name"],
                    "properties": {"id": {"type": ["integer", "string"]}, "name": _TEXT},
                    "additionalProperties": False,
                },
            },
            "default": {"$ref": "#/components/schemas/Value"},
            "store": _TEXT | {"description": "Of a Reference: the store of the entities that it refers to"},
            "by": _TEXT | {"description": "A unique field of these entities that it holds, instead of their `_id`"},
            "on_delete": {"enum": list(ON_DELETE), "description": "What the deletion of such an entity means"},
            "start": {"type": "integer", "minimum": 0, "maximum": LARGEST_START, "description": "Of a Serial"},
        },
        "additionalProperties": False,
        "allOf": [_needed(name) for name in sorted({need for each in FIELD_TYPES.values() for need in each.needs})],
    }


def _needed(setting: str) -> Schema:
    """Return the condition that fields of certain types have this setting, neither an empty list nor an empty text."""
    types = [name for name, each in FIELD_TYPES.items() if setting in each.needs]
    then = {"required": [setting], "properties": {setting: {"minItems": 1, "minLength": 1}}}
    return {"if": {"properties": {"type": {"enum": types}}}, "then": then}


SENT: Final[Mapping[tuple[str, str], Schema]] = {
    ("users", "email"): {
        "type": "string",
        "maxLength": mailboxes.LONGEST,
        "pattern": mailboxes.PATTERN,
        "description": "One e-mail address, without a name",
        "examples": [mailboxes.EXAMPLE],
    }
}
"""(store, field) → schema in writes. Stored values may differ: an older version or another program wrote them."""

ASSIGNED: Final = frozenset(
    {("tokens", name) for name in ("prefix", "digest", "last_used", "address", "agent")}
    | {("keys", name) for name in ("prefix", "digest", "last_used")}
    | {(store.name, f.id) for store in (SESSIONS, SECOND_FACTORS, SIGNINS) for f in store.fields}
    | {("users", "login_key"), ("stores", "purpose")}
)
"""Fields that only the hub writes."""

FIXED: Final = frozenset({("tokens", "user"), ("keys", "user")})
"""Fields that are set at creation and cannot be changed."""

REVEALED: Final[Mapping[str, dict[str, Schema]]] = {
    "tokens": {"token": _TEXT | {"readOnly": True, "description": "Only in the answer that creates the token"}},
    "keys": {"key": _TEXT | {"readOnly": True, "description": "Only in the answer that creates the key"}},
}
"""Fields that only the creator of an entity sees, in the answer to the creation."""

_NAMES: Final[Schema] = {
    "type": ["array", "null"],
    "items": {"type": "string", "pattern": r"^[^$_.][^.]*$"},
    "maxItems": MAX_FIELDS,
    "uniqueItems": True,
}
_OPERATIONS: Final[Schema] = {
    "type": ["object", "null"],
    "properties": {
        "rename": {
            "type": ["object", "null"],
            "additionalProperties": _NAMES["items"],
            "description": "Former names with the new ones, to which their values move",
        },
        "drop": _NAMES | {"description": "Fields whose values are removed"},
        "fill": _NAMES | {"description": "Fields whose default is set where there is no value; a Serial numbers"},
        "convert": _NAMES | {"description": "Fields whose values are turned into those of the new type"},
        "steps": {"type": ["boolean", "null"], "description": "Whether to begin only, and to go on by `continue`"},
    },
    "additionalProperties": False,
}
_STEP: Final[Schema] = {
    "type": "object",
    "required": ["continue"],
    "properties": {"continue": {"type": "integer", "minimum": 1, "maximum": LARGEST_STEP}},
    "additionalProperties": False,
    "description": "Changes the next entities, at most so many, after a beginning with `steps`",
}
_DATA: Final[Schema] = {
    "anyOf": [_OPERATIONS, _STEP],
    "writeOnly": True,
    "description": "What becomes of the values of entities, in the same commit; not stored",
}

BESIDE: Final[Mapping[str, dict[str, Schema]]] = {
    "stores": {"data": _DATA},
    "users": {
        "current_password": _TEXT
        | {"writeOnly": True, "description": "Needed to change one's own password or e-mail address; not stored"}
    },
}
"""Members that a change may contain besides the entity's fields."""

WRITABLE_SYSTEM: Final[Mapping[str, dict[str, Schema]]] = {
    "users": {"group": {"anyOf": [ID, {"type": "null"}], "description": "The user's group"}}
}
"""System fields that callers may write."""

NO_WRITES: Final = frozenset({"sessions", "second_factors", "signins"})
"""Stores whose entities callers can neither create nor change."""

NO_DELETES: Final = frozenset({"signins"})
"""Stores whose entities callers can neither delete nor share."""
