"""The platform API as an OpenAPI 3.1 document, generated from its operations and the stores.

Every call appears generically for any store, and once more, with its fields, for each store where the caller may use
it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import orjson

from auth.policy import view_of
from auth.principal import Principal
from hub.dialects.forms import MULTIPART
from hub.dialects.platform import answer_components, parameter_components
from hub.dialects.platform.context import PlatformContext
from hub.dialects.platform.operations import ACCOUNT_OPERATIONS, ENTITY_OPERATIONS, FILES, Operation
from hub.dialects.platform.parameters import known_parameters
from hub.dialects.platform.schemas import ANY_STORE, read_schema, shared_schemas, store_schemas
from hub.dialects.platform.system_schemas import NO_DELETES, NO_WRITES
from hub.http.answer import Answer
from hub.http.call import Call
from hub.http.proxies import PREFIX
from hub.openapi.document import DocumentPart, document_of
from hub.openapi.schemas import JSON, Schema, ref
from stores.schema import StoreDefinition
from stores.turns import Turn

ONE, WHOLE_BODY = ref("Success"), ref("Stamped")
_CREDENTIALS: Final[list[Schema]] = [{"bearer": []}, {"cookie": []}]


async def openapi_document(context: PlatformContext, principal: Principal | None, prefix: str = "") -> bytes:
    """Return the document for `principal`, of a hub that is published under `prefix`. Without a principal it names only
    the stores in fixed paths. Other tasks run in between: there may be hundreds of stores."""
    most = context.settings.max_items
    stores = [] if principal is None else context.registry.all()
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = (
        shared_schemas() | answer_components.answer_schemas() | {"Access": answer_components.access_list(most)}
    )
    is_admin = principal is not None and principal.admin
    general = [call for call in OPERATIONS if is_admin or not call.for_administrators]
    _add(paths, schemas, ANY_STORE, general, most, None)
    turn = Turn()
    for definition in stores:
        if turn.is_over:
            await turn.pass_on()
        calls = [c for c in OPERATIONS if _applies(c, definition, principal)]
        readable = principal is not None and view_of(principal, definition, "GET") is not None
        # As texts: rendering all stores in one call would hold up other tasks.
        own_paths: dict[str, Schema] = {}
        own_schemas: dict[str, Schema] = {}
        _add(own_paths, own_schemas, definition, calls, most, readable)
        _require_length(own_schemas, context.settings.password_length)
        paths |= _rendered(own_paths)
        schemas |= _rendered(own_schemas)
    part = DocumentPart(
        paths,
        _CREDENTIALS,
        {
            "bearer": {"type": "http", "scheme": "bearer"},
            "cookie": {"type": "apiKey", "in": "cookie", "name": "sid"},
        },
        schemas,
        parameter_components.shared_parameters(most),
        answer_components.headers(),
        answer_components.error_responses(),
    )
    return orjson.dumps(document_of(part, "hub", "1", "Entities of every store, and who may see them.", prefix))


def _add(
    paths: dict[str, Schema],
    schemas: dict[str, Schema],
    definition: StoreDefinition,
    calls: Sequence[Operation],
    most: int,
    readable: bool | None,
) -> None:
    """Add the calls on one store, and its schemas, to the document. `readable`: whether a writer may read the entities
    that it writes; None if that depends on the store."""
    if not calls:
        return
    schemas |= store_schemas(definition)
    for call in calls:
        at = call.path if definition is ANY_STORE else call.path.replace("{store}", definition.name)
        item = paths.setdefault(at, {"parameters": [ref("requestId", "parameters")]})
        item[call.method.lower()] = operation_object(call, definition, most, readable)


def _rendered(named: dict[str, Schema]) -> dict[str, orjson.Fragment]:
    return {name: orjson.Fragment(orjson.dumps(part)) for name, part in named.items()}


def _require_length(schemas: dict[str, Schema], least: int) -> None:
    """Add the smallest length of passwords: it is a setting, not a part of the definition."""
    for name in ("users.new", "users.replacement", "users.changes"):
        if name in schemas:
            schemas[name]["properties"]["password"]["minLength"] = least


def _applies(call: Operation, definition: StoreDefinition, principal: Principal | None) -> bool:
    """Return whether the store supports the call and the principal may use it there."""
    if "{store}" not in call.path or principal is None:
        return False
    if definition.system and call.parameters == "filter":
        return False
    if definition.name in NO_DELETES and (call.method == "DELETE" or call.body == "access"):
        return False
    if definition.name in NO_WRITES and call.body in ("entity", "entities", "changes"):
        return False
    if call.path.startswith(FILES) and not definition.file_fields:
        return False
    return view_of(principal, definition, call.needed) is not None


def operation_object(call: Operation, definition: StoreDefinition, most: int, readable: bool | None) -> Schema:
    """Return one call as an OpenAPI operation object."""
    name = definition.name
    any_store = definition is ANY_STORE
    made: Schema = {
        "operationId": call.name if any_store else f"{name}.{call.name}",
        "summary": call.summary,
        "tags": [_tag(call, definition)],
        "parameters": [
            *_path_parameters(call, any_store),
            *parameter_components.store_parameters(call, definition, name),
            *_headers(call),
        ],
        "responses": _responses(call, definition, readable),
    }
    if call.body != "none":
        needed = call.body not in ("ending", "proof", "link")
        contents = {JSON: {"schema": _body(call, name, most)}}
        if call.body == "upload":
            contents[MULTIPART] = {"schema": ref("UploadForm")}
        made["requestBody"] = {"required": needed, "content": contents}
    if call.open:
        made["security"] = [{}, *_CREDENTIALS] if call.personal else []
    return made


def _tag(call: Operation, definition: StoreDefinition) -> str:
    if definition is not ANY_STORE:
        return definition.name
    return "any store" if "{store}" in call.path or call.body == "batch" else "account"


def _path_parameters(call: Operation, any_store: bool) -> list[Schema]:
    names = (["store"] if any_store else []) + ["id", "field", "file"]
    return [ref(name, "parameters") for name in names if f"{{{name}}}" in call.path]


def _headers(call: Operation) -> list[Schema]:
    names = []
    if call.conditional:
        names += ["ifMatch", "ifNoneMatchOfRead" if call.method == "GET" else "ifNoneMatch"]
    if call.idempotent:
        names.append("idempotencyKey")
    return [ref(name, "parameters") for name in names]


def _body(call: Operation, name: str, most: int) -> Schema:
    match call.body:
        case "entities":
            new = ref(f"{name}.new")
            return {"anyOf": [new, {"type": "array", "minItems": 1, "maxItems": most, "items": new}]}
        case "entity":
            return ref(f"{name}.replacement")
        case "changes":
            return ref(f"{name}.bulk" if call.result == "count" else f"{name}.changes")
        case "access":
            return ref("Access")
    return ref(call.body.capitalize())


# Answers.


def _responses(call: Operation, definition: StoreDefinition, readable: bool | None) -> Schema:
    done = {"200": {"description": "Done", **_result(call, definition, readable)}}
    if call.conditional and call.method == "GET":
        done["304"] = ref("NotModified", "responses")
    return done | {str(status): ref(f"Error{status}", "responses") for status in statuses(call)}


def statuses(call: Operation) -> list[int]:
    """Return the status codes of the call's errors: its own, and those implied by its other attributes."""
    on_store = "{store}" in call.path
    found = {400, 408, 417, 421, 431, 503, *call.errors}
    if not call.open:
        found |= {401, 403} if on_store or call.writes else {401}
    if on_store:
        found |= {404}
    if call.body != "none":
        found |= {413, 415}
    if call.writes:
        found |= {507}
    if call.conditional:
        found |= {412}
    return sorted(found)


_SIMPLE: Final[Mapping[str, str]] = {
    "count": "Count",
    "session": "Signed",
    "signed_out": "Signed",
    "token": "AccessToken",
    "account": "Account",
    "document": "Document",
    "enrolment": "Enrolment",
    "recovery": "RecoveryCodes",
    "done": "Done",
    "responses": "Responses",
    "link": "SignedLink",
}


def _written(name: str, readable: bool | None, *more: Schema) -> Schema:
    """Return the schema of a written entity in an answer: the whole entity, or its id and revision."""
    whole = {"allOf": [ref(f"{name}.entity"), WHOLE_BODY, *more]}
    marks = ref("WrittenOne") if more else ref("Written")
    return {"anyOf": [whole, marks]} if readable is None else whole if readable else marks


def _result(call: Operation, definition: StoreDefinition, readable: bool | None) -> Schema:
    """Return headers and content of the successful answer."""
    name = definition.name
    match call.result:
        case "entity":
            more = {"Location": "Location"} if call.body == "upload" else {}
            return _content(_written(name, readable, ONE), ETag="ETag", **more)
        case "projected":
            return _content({"allOf": [read_schema(definition), ONE]}, ETag="ETag-of-plain")
        case "entities":
            several = {
                "success": {"const": True},
                "entities": {"type": "array", "minItems": 1, "items": _written(name, readable)},
            }
            many = {"type": "object", "properties": several, "required": ["success", "entities"]}
            return _content({"anyOf": [_written(name, readable, ONE), many]}, ETag="ETag-of-one")
        case "list":
            return _content(answer_components.list_answers(definition), **{"X-Position": "X-Position", "Link": "Link"})
        case "history":
            return _content(ref("History"), Link="Link")
        case "session" | "signed_out":
            return _content(ref("Signed"), **{"Set-Cookie": "Set-Cookie"})
        case "page":
            return {"content": {"text/html": {"schema": {"type": "string"}}}}
    return _content(ref(_SIMPLE[call.result]))


def _content(schema: Schema, **headers: str) -> Schema:
    return {"headers": answer_components.header_refs(headers), "content": {JSON: {"schema": schema}}}


# The operation that returns the document.


async def describe_api(context: PlatformContext, call: Call) -> Answer:
    """Return the document. Without credentials it describes how to get some, and the part common to all stores."""
    known_parameters(call.parameters(), ())
    asked = call.bearer() is not None or call.session() is not None
    principal = await context.authenticate(call) if asked else None
    prefix = call.scope.get(PREFIX, "")
    if principal is not None:
        rights = prefix, principal.admin, principal.role_scopes, principal.token_scopes
        make = partial(openapi_document, context, principal, prefix)
        registry = context.registry
        return Answer(await context.documents.get(principal.user_id, rights, lambda: registry.generation, make))
    if context.public_document[0] != prefix or not context.public_document[1]:
        context.public_document = prefix, await openapi_document(context, None, prefix)
    return Answer(context.public_document[1])


DESCRIBE: Final = Operation(
    "describe",
    "GET",
    "/api/v1/openapi.json",
    "This document",
    describe_api,
    "document",
    open=True,
    personal=True,
    errors=(401,),
)

OPERATIONS: Final = (*ACCOUNT_OPERATIONS, DESCRIBE, *ENTITY_OPERATIONS)
"""Every operation of the platform API."""
