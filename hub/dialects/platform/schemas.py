"""JSON Schemas of a store's entities, generated from its definition: as shown, sent whole, sent in part, filtered.

A schema of sent data states which data the hub refuses. A schema of shown data states what every answer satisfies, even
after a redefinition of the store: it requires only the fields that the hub itself assigns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from hub.dialects.platform.parameters import OPERATORS, RESERVED
from hub.dialects.platform.path_patterns import (
    IN_BY,
    IN_FILTER,
    IN_LIST,
    IN_NAME,
    all_paths,
    free_paths,
    system_paths,
    typed_paths,
)
from hub.dialects.platform.system_schemas import (
    ASSIGNED,
    BESIDE,
    FIXED,
    REVEALED,
    SENT,
    WRITABLE_SYSTEM,
    refined,
)
from hub.openapi.schemas import INT64, MOMENT, NULL, Schema, literal, object_of, ref
from stores.aggregation import FUNCTIONS, UNITS
from stores.field import Field
from stores.fields.base import ParameterForm
from stores.fields.numbers import DECIMAL_TEXT
from stores.fields.settings import nullable, sent, sent_value, shown_value
from stores.fields.texts import timezones
from stores.parse_operators import MOST_PATH_TEXT
from stores.records import SYSTEM_FIELDS, SYSTEM_NUMBERS
from stores.schema import StoreDefinition

ID, VALUE = ref("Id"), ref("Value")

SYSTEM: Final[Mapping[str, Schema]] = {
    "_id": ID,
    "owner": {"type": ["string", "null"], "description": "The user who created it"},
    "group": {"type": ["string", "null"], "description": "The owner's group"},
    "access": {"type": "array", "items": {"type": "string"}, "description": "Users it is shared with"},
    "branch": {"type": "array", "items": {"type": "string"}, "description": "The group and the groups above it"},
    "time": MOMENT | {"description": "Creation, Unix milliseconds"},
    "_at": MOMENT | {"description": "Last update, Unix milliseconds"},
    "_rev": {
        "type": "integer",
        "minimum": 0,
        "description": "1 at creation, plus one with every change; the ETag. 0: written by another program",
    },
}


# Fields.


def shown_field(store: str, field: Field) -> Schema:
    """Return the schema of the field in answers."""
    return nullable(refined((store, field.id)) or shown_value(field))


def sent_field(store: str, field: Field) -> Schema:
    """Return the schema of the field in writes."""
    key = (store, field.id)
    special = SENT.get(key) or refined(key)
    schema = sent_value(field) if special is None else sent(field, special)
    return schema | {"writeOnly": True} if field.hidden else schema


# The schemas of one store.


def store_schemas(definition: StoreDefinition) -> dict[str, Schema]:
    """Return component schemas by name. Store names contain no dot, so they cannot collide with other components."""
    name = definition.name
    expanded = {f"{name}.expanded": expanded_entity(definition)} if definition.relations else {}
    return expanded | {
        f"{name}.entity": shown_entity(definition),
        f"{name}.new": sent_entity(definition, {}, whole=True),
        f"{name}.replacement": sent_entity(definition, OWN_ID, whole=True),
        f"{name}.changes": sent_entity(definition, OWN_ID, whole=False, operators=OPERATORS_SENT),
        f"{name}.bulk": sent_entity(definition, {}, whole=False, echo=False, operators=OPERATORS_SENT),
        f"{name}.filter": filter_schema(f"{name}.filter", definition),
        f"{name}.path": {"type": "string", "pattern": f"^{all_paths(definition, IN_LIST, through_references=True)}$"},
        f"{name}.order": {"type": "string", "pattern": f"^-?(?!-){all_paths(definition, IN_LIST)}$"},
        f"{name}.measure": {"type": "string", "pattern": f"^{_measures(definition)}$"},
        f"{name}.group_order": {"type": "string", "pattern": f"^-?{_measures(definition)}$"},
        f"{name}.dimension": {
            "type": "string",
            "pattern": f"^{all_paths(definition, IN_BY)}(?::(?:{'|'.join(UNITS)})(?:@[A-Za-z0-9_+/-]+)?)?$",
        },
    }


def shown_entity(definition: StoreDefinition) -> Schema:
    store = definition.name
    system = {name: schema | {"readOnly": True} for name, schema in SYSTEM.items()}
    fields = {
        f.id: shown_field(store, f) | ({"readOnly": True} if (store, f.id) in ASSIGNED else {})
        for f in definition.fields
        if not f.hidden
    }
    return {"type": "object", "properties": system | fields | REVEALED.get(store, {}), "required": ["_id"]}


def read_schema(definition: StoreDefinition) -> Schema:
    """Return the schema of an entity in the answer to a read, in which references may be expanded."""
    return ref(f"{definition.name}.{'expanded' if definition.relations else 'entity'}")


def expanded_entity(definition: StoreDefinition) -> Schema:
    """Return the schema of a shown entity with references, each of which may be expanded."""
    shown = shown_entity(definition)
    fields = {f.id: nullable(_expanded(f)) for f in definition.fields if not f.hidden}
    return shown | {"properties": shown["properties"] | fields}


def _expanded(field: Field) -> Schema:
    schema = shown_value(field)
    item = schema["items"] if field.many else schema
    if field.store:
        item = {"anyOf": [item, ref("Expanded")]}
    elif field.fields:
        item = item | {"properties": {member.id: nullable(_expanded(member)) for member in field.fields}}
    return schema | {"items": item} if field.many else item


OWN_ID: Final[dict[str, Schema]] = {"_id": ID | {"description": "The entity's own id, which never changes"}}


def sent_entity(
    definition: StoreDefinition,
    more: dict[str, Schema],
    *,
    whole: bool,
    echo: bool = True,
    operators: Mapping[str, Schema] = MappingProxyType({}),
) -> Schema:
    """Return the schema of a write. A `whole` entity needs every required field; other writes may send any fields. With
    `echo`, it also accepts the system fields of an answer. `operators` are further members that it may have."""
    store = definition.name
    dropped: Schema = {"description": "Assigned by the hub: ignored in requests"}
    echoed = {name: VALUE | dropped for name in SYSTEM_FIELDS if name != "_id" and echo}
    echoed |= {"success": {"const": True, "description": "Part of every answer: ignored in requests"}}
    barred = ASSIGNED | FIXED if more else ASSIGNED
    fields = {f.id: sent_field(store, f) for f in definition.fields if (store, f.id) not in barred}
    singles = {p: ref("Single") for p in definition.unique_paths if "." not in p and p not in definition.by_id}
    properties = echoed | WRITABLE_SYSTEM.get(store, {}) | more | fields | singles
    properties |= BESIDE.get(store, {}) if more else {}
    properties |= operators
    required = [f.id for f in definition.fields if whole and f.required and f.default is None]
    schema: Schema = {"type": "object", "properties": properties} | ({"required": required} if required else {})
    if not definition.open:
        return schema | {"additionalProperties": False}
    system = [n for n in SYSTEM_FIELDS if n != "_id"]
    own = "|".join(map(literal, (*system, *more)))
    beside = "".join(f"{literal(name)}|" for name in operators)
    others = f"{own}|{beside}" if echo else f"{beside}(?!(?:{own})$)"
    names = {"maxLength": 200, "pattern": f"^(?:{others}[^$_.][^.]*)$"}
    return schema | {"propertyNames": names, "additionalProperties": VALUE}


# Filters.


def filter_schema(name: str, definition: StoreDefinition) -> Schema:
    """Return the schema of a filter document: conditions on fields, and combined filters."""
    joined: Schema = {"type": "array", "minItems": 1, "items": ref(name)}
    return {
        "type": "object",
        "properties": {"$and": joined, "$or": joined, "$nor": joined, "_id": ref("IdCondition")},
        "patternProperties": {f"^(?!_id$){all_paths(definition, IN_FILTER)}$": ref("Condition")},
        "additionalProperties": False,
    }


def conditions_schema(definition: StoreDefinition, *, bulk: bool) -> Schema:
    """Return the schema of the parameters ``field=value`` and ``field[operator]=value``, combined into one object. In
    those of a `bulk` change an empty list cannot be excluded."""
    by_form: dict[ParameterForm, list[str]] = {form: [] for form in ParameterForm}
    by_form[ParameterForm.TEXT].append(system_paths(_SYSTEM_TEXTS))
    for pattern, form in typed_paths([field for field in definition.fields if not field.hidden], IN_NAME):
        by_form[form].append(pattern)
    kinds = {f"(?:{'|'.join(patterns)})": _VALUES[form] for form, patterns in by_form.items() if patterns}
    kinds[system_paths(SYSTEM_NUMBERS)] = _Values(_NUMBER, {"type": "number"})
    if definition.open:
        kinds[free_paths(definition, IN_NAME)] = _VALUES[ParameterForm.OTHER]
    return _conditions(kinds, bulk)


_SYSTEM_TEXTS: Final = ("owner", "group", "access", "branch")
_NUMBER: Final = r"-?(?:0|[1-9][0-9]{0,17}|[1-8][0-9]{18})(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,2})?"
"""Pattern of a number in a list. The hub takes one that fits neither in 64 bits nor in a double for text: the pattern
has none of these, and lacks a few near these bounds that fit."""
_TEXT: Final = r'(?:"[^"]*(?:""[^"]*)*"|(?:[^",][^,]*)?)'


@dataclass(frozen=True, slots=True)
class _Values:
    """The values of parameters: the pattern of an item of a list, and the schema of a single value."""

    item: str
    single: Schema

    @property
    def listed(self) -> Schema:
        pattern = f"^{self.item}(?:,{self.item})*$"
        return {"type": "string", "pattern": pattern, "description": "Separated by commas"}


_ID: Final[Schema] = {"type": "string", "pattern": '^(?:[0-9a-fA-F]{24}|"[0-9a-fA-F]{24}"|null)$'}
"""An id in a parameter."""
_ANY_TEXT: Final = _Values(_TEXT, {"type": "string"})
_VALUES: Final[Mapping[ParameterForm, _Values]] = {
    ParameterForm.TEXT: _ANY_TEXT,
    ParameterForm.NUMBER: _Values(f"(?:{_NUMBER}|null)", {"anyOf": [{"type": "number"}, {"const": "null"}]}),
    ParameterForm.BOOLEAN: _Values("(?:true|false|null)", {"type": "string", "enum": ["true", "false", "null"]}),
    ParameterForm.OTHER: _ANY_TEXT,
}


def _conditions(kinds: Mapping[str, _Values], bulk: bool) -> Schema:
    compared = "|".join(op for op in OPERATORS if op not in ("in", "nin", "exists", "contains", "startswith"))
    reserved = "|".join(RESERVED)
    patterns: dict[str, Schema] = {r"^_id(?:\[(?:eq|ne)\])?$": _ID}
    for paths, values in kinds.items():
        patterns[f"^(?!(?:{reserved})$){paths}$"] = values.single
        patterns[rf"^{paths}\[(?:{compared})\]$"] = values.single
        patterns[rf"^{paths}\[(?:contains|startswith)\]$"] = {"type": "string"}
        patterns[rf"^{paths}\[in\]$"] = values.listed
        patterns[rf"^{paths}\[nin\]$"] = values.listed | ({"minLength": 1} if bulk else {})
        patterns[rf"^{paths}\[exists\]$"] = {"type": "string", "enum": ["true", "false"]}
    return {"type": "object", "patternProperties": patterns, "additionalProperties": False}


_OF_FIELDS: Final = "|".join(function for function in FUNCTIONS if function != "count")


# Operators. Whether one fits depends on the entity, and on the type of the field.

_PATH: Final[Schema] = {
    "type": "string",
    "maxLength": MOST_PATH_TEXT,
    "pattern": rf"^(?!_|success(?:\.|$)){IN_FILTER}(?:\.{IN_FILTER})*$",
    "examples": ["place.city"],
}


def _at_paths(value: Schema, description: str) -> Schema:
    return {"type": "object", "propertyNames": _PATH, "additionalProperties": value, "description": description}


def _operator_schemas() -> dict[str, Schema]:
    several: Schema = object_of({"$each": {"type": "array", "items": VALUE}})
    compared = "; numbers compare with numbers, text with text"
    amount: Schema = {"anyOf": [{"type": "number"}, DECIMAL_TEXT]}
    return {
        "Increments": _at_paths(amount, "Numbers to add, by dotted path; text only for Numeric fields"),
        "Comparands": _at_paths({"type": ["number", "string"]}, f"Values by dotted path{compared}"),
        "Assignments": _at_paths(VALUE, "Values by dotted path"),
        "Removals": {"type": "array", "items": _PATH, "description": "Dotted paths"},
        "Additions": _at_paths({"anyOf": [VALUE, several]}, "Elements for lists, by dotted path"),
        "Elements": _at_paths(VALUE, "Elements that leave lists, by dotted path"),
    }


OPERATORS_SENT: Final[Mapping[str, Schema]] = {
    "$inc": ref("Increments"),
    "$min": ref("Comparands"),
    "$max": ref("Comparands"),
    "$set": ref("Assignments"),
    "$unset": ref("Removals"),
    "$push": ref("Additions"),
    "$addToSet": ref("Additions"),
    "$pull": ref("Elements"),
}
"""The operators of changes, and the schemas of their arguments."""


def _measures(definition: StoreDefinition) -> str:
    """Return the pattern of the functions of an aggregation."""
    return f"(?:count|(?:{_OF_FIELDS}):{all_paths(definition, IN_LIST)})"


# Schemas shared by all stores.


def shared_schemas() -> dict[str, Schema]:
    operators = ref("Operators")
    values = {"type": "array", "items": VALUE}
    single = {"type": ["string", "number", "boolean", "null"]}
    equal = {"$eq": VALUE, "$ne": VALUE, "$in": values, "$nin": values, "$all": values}
    compared = {f"${op}": single for op in ("gt", "gte", "lt", "lte")}
    text = {"$contains": {"type": "string"}, "$startswith": {"type": "string"}}
    rest = {
        "$exists": {"type": "boolean"},
        "$size": {"type": "integer", "minimum": 0, "maximum": 2**63 - 1},
        "$not": operators,
        "$elemMatch": {"type": "object", "minProperties": 1},
    }
    some_id = {"anyOf": [ID, NULL]}
    ids = {"type": "array", "items": some_id}
    return _operator_schemas() | {
        "Id": {"type": "string", "pattern": "^[0-9a-f]{24}$", "examples": ["5f0c1e2d3a4b5c6d7e8f9a0b"]},
        "Value": _any_value(),
        "Single": {
            "type": ["string", "number", "null"],
            "description": "A value of a unique field",
        },
        "Expanded": {
            "type": "object",
            "description": "With `expand`: the entity that is referred to, as the caller sees it; out of sight, only "
            "the value that refers to it",
        },
        "Timezone": {"type": "string", "enum": sorted(timezones())},
        "Condition": {"anyOf": [VALUE, operators]},
        "Operators": {
            "type": "object",
            "minProperties": 1,
            "properties": equal | compared | text | rest,
            "additionalProperties": False,
        },
        "IdCondition": {
            "anyOf": [
                some_id,
                {
                    "type": "object",
                    "minProperties": 1,
                    "properties": {"$eq": some_id, "$ne": some_id, "$in": ids, "$nin": ids} | _SOME_EXIST,
                    "additionalProperties": False,
                },
            ]
        },
    }


_SOME_EXIST: Final[Schema] = {"$exists": {"type": "boolean"}}


def _any_value() -> Schema:
    """Return the schema of any JSON value that an entity can contain."""
    names = {"maxLength": 200, "pattern": "^[^$.][^.]*$"}
    return {
        "description": "Any JSON value; integers of at most 64 bits, names without dots or a leading $",
        "anyOf": [
            {"type": ["null", "boolean", "string"]},
            INT64,
            {"type": "number"},
            {"type": "array", "items": VALUE},
            {"type": "object", "propertyNames": names, "additionalProperties": VALUE},
        ],
    }


ANY_STORE: Final = StoreDefinition("_any")
"""Represents the store of the generic paths. No real store can have this name."""
