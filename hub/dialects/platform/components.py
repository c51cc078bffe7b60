"""Components of the OpenAPI document: the parameters, headers and answers that its operations refer to."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from hub.dialects.platform.operations import Operation
from hub.dialects.platform.schemas import ANY_STORE, ID, VALUE, conditions_schema, read_schema
from hub.errors import status_text, tags_of
from hub.openapi.schemas import (
    INT64,
    JSON,
    MOMENT,
    NULL,
    TEXTS,
    Schema,
    header_parameter,
    object_of,
    path,
    query,
    ref,
)
from hub.services.batch import END_OF_REVISIONS, MOST_REQUESTS
from hub.services.expansion import MOST_EXPANDED
from hub.services.expansion_plan import MOST_EXPANDED_DEPTH, MOST_EXPANDED_PATHS, MOST_REFERRING
from stores.aggregation import FUNCTIONS, MOST_DIMENSIONS, MOST_MEASURES
from stores.definitions import STORE_NAME
from stores.protocol import MOST_HISTORY_ENTRIES
from stores.schema import StoreDefinition

ERRORS: Final = (400, 401, 403, 404, 408, 409, 410, 412, 413, 415, 417, 421, 429, 431, 503, 507)


# Parameters shared by all stores.

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
    "format": "entity-tags",
    "pattern": r'^(\*|"[0-9]+"(, *"[0-9]+")*)$',
    "examples": ['"3"'],
}
_TIME_RANGE: Final = "Unix milliseconds or ISO 8601 (no zone: UTC), inclusive"


def shared_parameters(most: int) -> dict[str, Schema]:
    """Return the parameters by component name. `most` is the largest page."""
    name = STORE_NAME.pattern.replace(r"\Z", "")
    return {
        "store": path("store", {"type": "string", "pattern": f"^{name}$"}, "A store"),
        "id": path("id", ID, "An entity"),
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
        "ifNoneMatch": header_parameter(
            "If-None-Match", _MATCH, "304 for a read, 412 for a write, if the entity is at one of these revisions"
        ),
        "idempotencyKey": header_parameter(
            "Idempotency-Key",
            {"type": "string", "pattern": r"^[\x21-\x7e]{1,255}$"},
            "A repetition with the same key and body gets the first answer again",
        ),
        "requestId": header_parameter("X-Request-Id", {"type": "string"}, "Kept if it is one ASCII word"),
    }  # fmt: skip


# Parameters of one store. The names of its component schemas begin with `name`.


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
    return _csv("only", ref(f"{name}.path"), "Fields to show; _id is always included")


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


# Headers.


def headers() -> dict[str, Schema]:
    def header(schema: Schema, description: str, required: bool = True) -> Schema:
        return {"description": description, "required": required, "schema": schema}

    text: Schema = {"type": "string", "minLength": 1}
    return {
        "X-Request-Id": header(text, "Identifies this request in the log"),
        "X-Position": header(text, "Position of the answer: `since` it, exactly the later changes are returned"),
        "ETag": header({"type": "string", "pattern": r'^"\d+"$'}, "The entity's revision"),
        "ETag-of-plain": header({"type": "string", "pattern": r'^"\d+"$'}, "The revision, without `expand`", False),
        "ETag-of-one": header({"type": "string", "pattern": r'^"\d+"$'}, "The revision of a single entity", False),
        "Link": header({"type": "string", "pattern": r'^<[^>]+>; rel="next"$'}, "The next page, if any", False),
        "Retry-After": header({"type": "integer", "minimum": 1}, "Seconds to wait"),
        "WWW-Authenticate": header({"const": "Bearer"}, "How to authenticate"),
        "Set-Cookie": header(text, "The session, as the cookie sid"),
    }  # fmt: skip


def header_refs(names: Mapping[str, str]) -> Schema:
    """Return references to header components; `names` maps the name on the wire to the component."""
    return {name: ref(component, "headers") for name, component in {"X-Request-Id": "X-Request-Id", **names}.items()}


_GIVEN: Final[Schema] = {"type": "string", "minLength": 1, "maxLength": 1_000}
SIGNED: Final[Schema] = {
    "sucess": {"const": True, "description": "The spelling that the first clients expect"},
    "success": {"const": True},
}

_ERROR_HEADERS: Final[Mapping[int, tuple[str, ...]]] = {
    401: ("WWW-Authenticate",),
    429: ("Retry-After",),
    503: ("Retry-After",),
}


# Answers.


def error_response(status: int) -> Schema:
    text = status_text(HTTPStatus(status))
    said = {
        "code": {"const": str(status)},
        "message": {"const": text},
        "tags": {"const": list(tags_of(HTTPStatus(status)))},
    }
    return {
        "description": text,
        "headers": header_refs({name: name for name in _ERROR_HEADERS.get(status, ())}),
        "content": {JSON: {"schema": {"allOf": [ref("Error"), {"type": "object", "properties": said}]}}},
    }  # fmt: skip


def error_responses() -> dict[str, Schema]:
    not_modified = {"description": "Not Modified", "headers": header_refs({"ETag": "ETag"})}
    return {f"Error{status}": error_response(status) for status in ERRORS} | {"NotModified": not_modified}


def answer_schemas() -> dict[str, Schema]:
    """Return the schemas of answers that do not depend on the store."""
    return {
        "Error": _error(),
        "Success": {"type": "object", "properties": {"success": {"const": True}}, "required": ["success"]},
        "Stamped": {"type": "object", "required": ["owner", "group", "access", "branch", "time", "_at", "_rev"]},
        "Count": object_of(
            {"success": {"const": True}, "count": {"type": "integer", "minimum": 0}}, optional=("count",)
        ),
        "Written": object_of({"_id": ID, "_rev": INT64}),
        "WrittenOne": object_of({"success": {"const": True}, "_id": ID, "_rev": INT64}),
        "Signed": object_of(SIGNED),
        "AccessToken": object_of(
            SIGNED | {"type": {"const": "access"}, "token": {"type": "string"}, "issuedAt": MOMENT, "expiresAt": MOMENT}
        ),
        "Account": _account(),
        "History": object_of({"success": {"const": True}, "history": {"type": "array", "items": _history_entry()}}),
        "Credentials": {
            "type": "object",
            "properties": {
                "login": _GIVEN,
                "password": _GIVEN,
                "code": _GIVEN | {"type": ["string", "null"]},
            },
            "required": ["login", "password"],
        },
        "Code": object_of({"code": _GIVEN}),
        "Login": object_of({"login": _GIVEN}),
        "Reset": object_of({"token": _GIVEN, "password": _GIVEN}),
        "Enrolment": object_of({"success": {"const": True}, "secret": {"type": "string"}, "url": {"type": "string"}}),
        "RecoveryCodes": object_of({"success": {"const": True}, "codes": TEXTS}),
        "Done": object_of({"success": {"const": True}}),
        "Batch": _batch(),
        "Responses": _responses(),
        "Ending": {
            "type": "object",
            "properties": {"tokens": {"type": "boolean", "description": "Whether to end the caller's tokens as well"}},
            "additionalProperties": False,
        },
        "Proof": {
            "type": "object",
            "properties": {
                "current_password": _GIVEN
                | {"description": "Needed unless this session or access token began in the last ten minutes"}
            },
            "additionalProperties": False,
        },
        "Document": {"type": "object", "required": ["openapi", "info", "paths", "components"]},
    }


def _batch() -> Schema:
    """Return the schema of a batch. Bodies are those of the single calls, in which an object with the only member
    ``$ref`` stands for a value."""
    store = {
        "type": "string",
        "pattern": r"^/[^/?#]+(\?upsert=[^&#]+)?$",
        "description": "/STORE, with ?upsert=PATH to upsert",
    }
    entity = {"type": "string", "pattern": "^/[^/?#]+/[^/?#]+$", "description": "/STORE/ID"}
    body = {"type": "object", "description": "As sent alone, but with $ref"}
    rev = {
        "type": ["integer", "null"],
        "minimum": 0,
        "exclusiveMaximum": END_OF_REVISIONS,
        "description": "The revision that the entity must have",
    }
    none, change = {"type": "null"}, {"enum": ["PATCH", "PUT"]}
    requests = [
        object_of({"method": {"const": "POST"}, "path": store, "body": body, "if_match": none}, optional=("if_match",)),
        object_of({"method": change, "path": entity, "body": body, "if_match": rev}, optional=("if_match",)),
        object_of(
            {"method": {"const": "DELETE"}, "path": entity, "body": none, "if_match": rev},
            optional=("body", "if_match"),
        ),
    ]
    items = {"type": "array", "items": {"oneOf": requests}, "minItems": 1, "maxItems": MOST_REQUESTS}
    return object_of({"requests": items})


def _responses() -> Schema:
    one = object_of({"status": {"const": 200}, "body": {"allOf": [ref("Success"), {"type": "object"}]}})
    return object_of({"success": {"const": True}, "responses": {"type": "array", "items": one, "minItems": 1}})


def _error() -> Schema:
    said = TEXTS | {"minItems": 1}
    return object_of(
        {
            "success": {"const": False},
            "code": {"type": "string"},
            "message": {"type": "string"},
            "tags": said,
            "errors": {"type": "object", "additionalProperties": said},
        },
        optional=("errors",),
    )


def _account() -> Schema:
    return object_of(
        {
            "success": {"const": True},
            "_id": ID,
            "login": {"type": "string"},
            "group": {"anyOf": [ID, NULL]},
            "roles": {"type": "array", "items": ID},
            "admin": {"type": "boolean"},
            "type": {"enum": ["session", "access", "token", "control"]},
            "scopes": TEXTS | {"type": ["array", "null"], "description": "null: all rights of the user"},
            "expiresAt": MOMENT | {"type": ["integer", "null"], "description": "null: never"},
        }
    )


def _history_entry() -> Schema:
    anything: Schema = {}
    changed = object_of({"old": anything, "new": anything})
    return object_of(
        {
            "time": MOMENT,
            "by": {"type": ["string", "null"], "description": "A user; null: not a user of the hub"},
            "op": {"enum": ["insert", "update", "delete"]},
            "_rev": INT64,
            "changes": {"type": "object", "additionalProperties": changed},
        }
    )


def access_list(most: int) -> Schema:
    """Return the schema of the body that shares an entity."""
    return object_of({"access": {"type": "array", "items": ID, "maxItems": most}})


def list_answers(definition: StoreDefinition) -> Schema:
    """Return the schema of a list's four answers: the entities, their `meta`, groups of them, or the changes since a
    position."""
    shown = ref(f"{definition.name}.entity")
    end = {"anyOf": [shown, NULL]}
    change = object_of(
        {
            "op": {"enum": ["insert", "update", "remove"]},
            "_id": ID,
            "entity": end,
            "_rev": {"type": ["integer", "null"], "minimum": 0},
            "time": MOMENT,
            "position": {"type": "string"},
            "commit": {"type": "string", "description": "The same for all changes of a commit of several"},
            "last": {"const": True, "description": "This is the last of them in this view"},
        },
        optional=("commit", "last"),
    )
    whole = {"type": "integer", "minimum": 0}
    done = {"success": {"const": True}}
    place = {"position": {"type": "string"}}
    changes = place | {
        "changes": {"type": "array", "items": change},
        "more": {"type": "boolean"},
    }
    return {
        "oneOf": [
            {"title": "Entities", "type": "array", "items": read_schema(definition)},
            {"title": "Meta"} | object_of(done | {"count": whole, "first": end, "last": end}),
            {"title": "Groups"} | object_of(done | {"groups": {"type": "array", "items": _group()}} | place),
            {"title": "Changes"} | object_of(done | changes),
        ]
    }  # fmt: skip


def _group() -> Schema:
    """Return the schema of one group: its values in `by`, and of each function the results by field."""

    def results(schema: Schema) -> Schema:
        return {"type": "object", "additionalProperties": schema}

    average = {"type": ["number", "null"]}
    shown = {"by": results(VALUE), "count": {"type": "integer", "minimum": 0}, "sum": results({"type": "number"})}
    shown |= {"avg": results(average), "min": results(VALUE), "max": results(VALUE)}
    return object_of(shown, optional=FUNCTIONS)
