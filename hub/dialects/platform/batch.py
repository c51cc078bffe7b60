"""The operation that carries out a batch: parses its requests, calls the service, and renders the answers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from auth.principal import Principal
from hub.dialects.platform import answers
from hub.dialects.platform.bodies import parse_json
from hub.dialects.platform.context import PlatformContext
from hub.dialects.platform.entities import idempotency_key
from hub.dialects.platform.parameters import known_parameters
from hub.http.answer import Answer
from hub.http.body import SMALL_BODY, parse_body
from hub.http.call import Call
from hub.http.errors import BadRequest
from hub.services.batch import END_OF_REVISIONS, METHODS, MOST_REQUESTS, BatchRequest, Method
from hub.services.batch_answers import MEMBER, MOST_REFERENCES, references_in, references_in_text
from stores.errors import InvalidEntity
from stores.numbers import whole_number
from stores.protocol import Revisions
from stores.threads import in_thread

_MEMBERS: Final = ("method", "path", "body", "if_match")
_WRAPPED: Final = re.compile(rb'\s*\{\s*"requests"\s*:\s*(?=\[)')
_END: Final = re.compile(rb"\]\s*\}\s*\Z")
_LONGEST_END: Final = 1_000
_PATH: Final = re.compile(r"/([^/?#]+)(?:/([^/?#]+))?(?:\?([^#]*))?\Z")


async def batch(context: PlatformContext, call: Call, principal: Principal) -> Answer:
    known_parameters(call.parameters(), ())
    raw = await context.read_batch(call, principal)
    items = await _items(context, call, raw)
    requests = await in_thread(_requests, items) if len(raw) > SMALL_BODY else _requests(items)
    key = await idempotency_key(context, call, principal, raw)
    done = await context.batch.run(principal, requests, len(raw), key)
    return answers.batch_answer(done, context.settings.stream_timeout)


async def _items(context: PlatformContext, call: Call, raw: bytes) -> list[Any]:
    """Return the requests of a body as JSON values. They are parsed as an array is: in pieces, each bounded."""
    begins, ends = _WRAPPED.match(raw), _END.search(raw, max(0, len(raw) - _LONGEST_END))
    if begins and ends:
        limits = replace(context.json_limits, items=MOST_REQUESTS)
        try:
            with _placed():
                return _checked(await parse_body(raw[begins.end() : ends.start() + 1], limits, call.block))
        except BadRequest:
            # Perhaps the array ends earlier: the whole body, which is no longer than an item may be, tells.
            if len(raw) > context.json_limits.item_bytes:
                raise
    elif len(raw) > context.json_limits.item_bytes:
        raise BadRequest("body", 'A body of this size must be {"requests":[…]}.')
    value = await parse_json(context, call, raw)
    if not isinstance(value, dict):
        raise BadRequest("body", "The body must be a JSON object.")
    for name in value:
        if name != "requests":
            raise BadRequest(name, "A batch has only requests.")
    return _checked(value.get("requests"))


@contextmanager
def _placed() -> Iterator[None]:
    """Context for the parsing of the array alone: errors that name an item name it as one of the requests."""
    try:
        yield
    except InvalidEntity as error:
        violations = [replace(v, field=f"requests.{v.field}") if v.field.isdecimal() else v for v in error.violations]
        raise InvalidEntity(violations).at(error.limit_name) from error


def _checked(value: Any) -> list[Any]:
    if not isinstance(value, list) or not 0 < len(value) <= MOST_REQUESTS:
        raise BadRequest("requests", f"Must be an array of 1 to {MOST_REQUESTS} requests.")
    return value


def _requests(items: Sequence[Any]) -> list[BatchRequest]:
    """Return the requests. Raises BadRequest for the first that is malformed."""
    requests: list[BatchRequest] = []
    references = 0
    for index, item in enumerate(items):
        try:
            request, count = _request(item, index)
        except BadRequest as error:
            found = {f"requests.{index}.{name}": texts for name, texts in error.errors.items()}
            [(location, [text])] = found.items()
            raise BadRequest(location, text) from error
        references += count
        if references > MOST_REFERENCES:
            text = f"A batch has at most {MOST_REFERENCES} $ref."
            raise BadRequest(f"requests.{index}", text).at("MOST_REFERENCES")
        requests.append(request)
    return requests


def _request(item: Any, index: int) -> tuple[BatchRequest, int]:
    """Return a request, and the number of its references. The fields of errors are members of the request, or fields of
    its body."""
    if not isinstance(item, dict):
        raise BadRequest("method", "A request must be a JSON object with a method and a path.")
    for name in item:
        if name not in _MEMBERS:
            raise BadRequest(name[:200], f"A request has only {', '.join(_MEMBERS)}.")
    method = _method(item.get("method"))
    store, id, upsert = _path(item.get("path"), method)
    body = _body(item, method)
    revs = _revisions(item["if_match"], method) if "if_match" in item else None
    in_body = sum(1 for _ in references_in(body, index)) if body else 0
    count = len(references_in_text(id, index)) + in_body
    return BatchRequest(method, store, id, body, upsert, revs, count > 0), count


def _method(value: Any) -> Method:
    for method in METHODS:
        if value == method:
            return method
    raise BadRequest("method", f"Must be one of {', '.join(METHODS)}.")


def _path(value: Any, method: Method) -> tuple[str, str, str]:
    """Return store, id and the unique path of an upsert; the latter two may be empty."""
    match = _PATH.match(value) if isinstance(value, str) else None
    wanted = "/STORE" if method == "POST" else "/STORE/ID"
    if match is None or (match[2] is None) is not (method == "POST"):
        raise BadRequest("path", f"The path of a {method} in a batch is {wanted}.")
    parameters = parse_qsl(match[3] or "", keep_blank_values=True)
    if any(name != "upsert" or method != "POST" for name, _ in parameters) or len(parameters) > 1:
        raise BadRequest("path", "The only parameter of a request in a batch is upsert, of a POST.")
    if parameters and not parameters[0][1]:
        raise BadRequest("path", "upsert names a unique field.")
    store = unquote(match[1])
    if MEMBER in store:
        raise BadRequest("path", "A $ref in a path stands for the id or a part of it: the store must be named.")
    return store, unquote(match[2] or ""), parameters[0][1] if parameters else ""


def _body(item: dict[str, Any], method: Method) -> dict[str, Any] | None:
    body = item.get("body")
    if method == "DELETE":
        if body is not None:
            raise BadRequest("body", "A DELETE has no body.")
        return None
    if not isinstance(body, dict):
        raise BadRequest("body", "The body must be a JSON object.")
    return body


def _revisions(value: Any, method: Method) -> Revisions:
    if method == "POST":
        raise BadRequest("if_match", "A POST has no if_match: it creates an entity.")
    if isinstance(value, float):
        value = whole_number(value)  # `1.0` is a whole number in JSON
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < END_OF_REVISIONS:
        raise BadRequest("if_match", "Must be the revision of the entity, a whole number.")
    return frozenset({value})
