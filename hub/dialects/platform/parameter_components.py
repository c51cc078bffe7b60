"""Parameters in the OpenAPI document: components that all stores share, and the query parameters of each store."""

from __future__ import annotations

from typing import Any, Final

from hub.dialects.platform.conditions import ETAGS
from hub.dialects.platform.operations import Operation
from hub.dialects.platform.schemas import ANY_STORE, ID, conditions_schema
from hub.openapi.schemas import JSON, Schema, header_parameter, path, query, ref
from hub.services.expansion import MOST_EXPANDED
from hub.services.expansion_plan import MOST_EXPANDED_DEPTH, MOST_EXPANDED_PATHS, MOST_REFERRING
from stores.aggregation import MOST_DIMENSIONS, MOST_MEASURES
from stores.definitions import STORE_NAME
from stores.fields.media import FILE_ID
from stores.protocol import MOST_HISTORY_ENTRIES
from stores.schema import StoreDefinition

_WHOLE: Final[Schema] = {"type": "integer", "minimum": 0, "maximum": 10**15 - 1}
_INSTANT: Final[Schema] = {
    "anyOf": [
        {"type": "integer", "minimum": 0, "maximum": 2**53 - 1},
        {"type": "string", "format": "date-time"},
        {"type": "string", "format": "date"},
    ]
}
_MATCH: Final[Schema] = {
    "type": "string",
    "pattern": rf"^(?:\*|{ETAGS})$",
    "examples": ['"3"'],
}
_TIME_RANGE: Final = "Unix milliseconds or ISO 8601 (no zone: UTC), inclusive"


def shared_parameters(most: int) -> dict[str, Schema]:
    """Return the parameters by component name. `most` is the largest page."""
    name = STORE_NAME.pattern.replace(r"\Z", "")
    return {
        "store": path("store", {"type": "string", "pattern": f"^{name}$"}, "A store"),
        "id": path("id", ID, "An entity"),
        "field": path("field", {"type": "string", "minLength": 1}, "A field of type Image or File"),
        "file": path("file", {"type": "string", "pattern": f"^{FILE_ID}$"}, "The id of a file"),
        "offset": query("offset", _WHOLE, "Entities to skip, after the cursor if there is one"),
        "limit": query("limit", _WHOLE | {"default": most}, f"Entities in one answer; values above {most} mean {most}"),
        "historyLimit": query(
            "limit", _WHOLE | {"default": MOST_HISTORY_ENTRIES}, "Entries in one answer; fewer when they are large"
        ),
        "meta": query("meta", {"type": "boolean"}, "Count, first and last; not with offset, limit, sort, after, since"),
        "from": query("from", _INSTANT, f"Created at or after: {_TIME_RANGE}"),
        "to": query("to", _INSTANT, f"Created at or before: {_TIME_RANGE}"),
        "begin": query("begin", _INSTANT, "Same as from; send only one of them"),
        "end": query("end", _INSTANT, "Same as to; send only one of them"),
        "after": query("after", {"type": "string", "format": "cursor"}, "Cursor of a rel=next link"),
        "historyAfter": query(
            "after", {"type": "string", "format": "history-cursor"}, "Cursor of a rel=next link of a history"
        ),
        "expand": _csv(
            "expand",
            {"type": "string", "format": "reference-path"},
            f"References to replace by what they refer to, at most {MOST_EXPANDED_DEPTH} deep (customer.region), and "
            f"what refers here (orders(customer): the newest {MOST_REFERRING}). A page has at most {MOST_EXPANDED} "
            "entities then, and an entity no ETag. Not with meta, since",
            maxItems=MOST_EXPANDED_PATHS,
        ),
        "search": query("search", {"type": "string"}, "Text that a searchable field contains, ignoring case"),
        "since": query("since", {"type": "string", "format": "position"}, "A position: only the changes after it"),
        "all": query("all", {"const": True}, "Every visible entity; not together with a filter"),
        "ifMatch": header_parameter("If-Match", _MATCH, "412 unless the entity is at one of these revisions"),
        "ifNoneMatch": header_parameter("If-None-Match", _MATCH, "412 if the entity is at one of these revisions"),
        "ifNoneMatchOfRead": header_parameter(
            "If-None-Match",
            {"type": "string", "examples": ['"3"']},
            "304 if the entity is at one of these revisions; text that is no list of ETags has no effect",
        ),
        "idempotencyKey": header_parameter(
            "Idempotency-Key",
            {"type": "string", "pattern": r"^[\x21-\x7e]{1,255}$"},
            "A repetition with the same key and body gets the first answer again",
        ),
        "requestId": header_parameter("X-Request-Id", {"type": "string"}, "Kept if it is one ASCII word"),
    }  # fmt: skip


def store_parameters(operation: Operation, definition: StoreDefinition, name: str) -> list[Schema]:
    """Return the query parameters of an operation on the store. `name` is the prefix of its component schemas."""
    match operation.parameters:
        case "list":
            shared = ["offset", "limit", "meta", "from", "to", "begin", "end", "after", "since", "expand"]
            return [*_refs(shared), _only(name), _sort(name), *_groups(name), *_filters(definition, name)]
        case "filter":
            return [*_refs(["all", "from", "to", "begin", "end"]), *_filters(definition, name, bulk=True)]
        case "projection":
            return [_only(name), *_refs(["expand"])]
        case "upsert":
            return [*_upsert(definition), *_keep(definition)]
        case "history":
            return _refs(["historyLimit", "historyAfter"])
    return []


def _refs(names: list[str]) -> list[Schema]:
    return [ref(name, "parameters") for name in names]


def _csv(name: str, item: Schema, description: str, **more: Any) -> Schema:
    schema = {"type": "array", "minItems": 1, "items": item} | more
    return query(name, schema, description, style="form", explode=False)


def _only(name: str) -> Schema:
    return _csv(
        "only",
        ref(f"{name}.path"),
        "Fields to show; _id is always included. Beside expand also fields behind references",
    )


def _sort(name: str) -> Schema:
    described = (
        "Fields to sort by, with - for descending; by default in order of creation. Beside aggregate: functions and "
        "fields of by"
    )
    either = {"anyOf": [ref(f"{name}.order"), ref(f"{name}.group_order")]}
    return _csv("sort", either, described, maxItems=16, uniqueItems=True)


def _groups(name: str) -> list[Schema]:
    functions = "Functions of the entities instead of the entities: count, sum:amount, avg:, min:, max:"
    grouped = "Beside aggregate: fields to group by; times by a unit and a zone, time:month@America/Toronto"
    return [
        _csv("aggregate", ref(f"{name}.measure"), functions, maxItems=MOST_MEASURES, uniqueItems=True),
        _csv("by", ref(f"{name}.dimension"), grouped, maxItems=MOST_DIMENSIONS, uniqueItems=True),
    ]


def _filters(definition: StoreDefinition, name: str, *, bulk: bool = False) -> list[Schema]:
    conditions = query(
        "conditions",
        conditions_schema(definition, bulk=bulk),
        "field=value and field[operator]=value, each as a separate parameter",
        style="form",
        explode=True,
    )
    document = {"name": "filter", "in": "query", "description": "Conditions in MongoDB's notation"}
    found = [conditions, document | {"content": {JSON: {"schema": ref(f"{name}.filter")}}}]
    searchable = definition.search_paths or definition is ANY_STORE
    return [*found, ref("search", "parameters")] if searchable else found


def _upsert(definition: StoreDefinition) -> list[Schema]:
    described = "A unique field: an existing entity with the same value is changed"
    if definition is ANY_STORE:
        return [query("upsert", {"type": "string"}, described)]
    if not definition.upsert_paths or definition.system:
        return []
    return [query("upsert", {"enum": list(definition.upsert_paths)}, described)]


def _keep(definition: StoreDefinition) -> list[Schema]:
    described = "Entities that are created keep the serial numbers in their bodies. Only for administrators"
    counts = definition is ANY_STORE or definition.serials
    return [query("keep", {"const": "serials"}, described)] if counts else []
