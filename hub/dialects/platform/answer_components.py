"""Components of the OpenAPI document for answers: headers, error answers, and the bodies of requests and answers that
do not depend on a store's fields."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from hub.dialects.platform.files import LONGEST_LINK
from hub.dialects.platform.schemas import ID, VALUE, read_schema
from hub.http.errors import status_text, tags_of
from hub.openapi.schemas import INT64, JSON, MOMENT, NULL, TEXTS, Schema, object_of, ref
from hub.services.batch import END_OF_REVISIONS, MOST_REQUESTS
from stores.aggregation import FUNCTIONS
from stores.fields.media import URL
from stores.schema import StoreDefinition

ERRORS: Final = (400, 401, 403, 404, 408, 409, 410, 412, 413, 415, 417, 421, 429, 431, 503, 507)


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
        "Location": header({"type": "string", "pattern": f"^{URL}"}, "The address of the new file"),
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
        "Upload": object_of({"url": _GIVEN | {"description": "Where the hub fetches the file"}}),
        "UploadForm": object_of({"file": {"type": "string", "contentMediaType": "application/octet-stream"}}),
        "Link": object_of({"expires": _link_expiry()}, optional=("expires",)),
        "SignedLink": object_of({"success": {"const": True}, "url": _GIVEN, "expires": MOMENT}),
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


def _link_expiry() -> Schema:
    """Return the schema of the end of a link, which is a number of seconds or a time."""
    seconds = {"type": "integer", "minimum": 1, "maximum": LONGEST_LINK, "description": "Seconds from now"}
    times = [MOMENT | {"minimum": 10**12}, {"type": "string", "format": "date-time"}]
    return {"anyOf": [seconds, *times, NULL]}


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
        "type": "integer",
        "minimum": 0,
        "exclusiveMaximum": END_OF_REVISIONS,
        "description": "The revision that the entity must have",
    }
    none, change = {"type": "null"}, {"enum": ["PATCH", "PUT"]}
    requests = [
        object_of({"method": {"const": "POST"}, "path": store, "body": body}),
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
    position = {"position": {"type": "string"}}
    changes = position | {
        "changes": {"type": "array", "items": change},
        "more": {"type": "boolean"},
    }
    return {
        "oneOf": [
            {"title": "Entities", "type": "array", "items": read_schema(definition)},
            {"title": "Meta"} | object_of(done | {"count": whole, "first": end, "last": end}),
            {"title": "Groups"} | object_of(done | {"groups": {"type": "array", "items": _group()}} | position),
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
