"""The errors of the listings API, and their texts, as Django REST framework 3.18 writes them.

Source: `rest_framework/exceptions.py`. An error is a dictionary: a text under `detail`, or lists of texts by field.
tests/listings/test_beside_drf.py compares the answers with those of the framework itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import orjson

from auth.errors import Forbidden, TooManyAttempts, Unauthenticated
from hub.http.answer import Answer
from hub.http.errors import BadRequest, Errors, Failure, NoSuchPath, UnsupportedCoding, WrongMethod, status_text
from stores.errors import NotFound

NO_KEY: Final = "Authentication credentials were not provided."
INVALID_KEY: Final = "Invalid API key."
NOT_PERMITTED: Final = "This API key is not permitted for this tenant or action."
NO_ENDPOINT: Final = "No such API endpoint."
NOT_FOUND: Final = "Not found."
INVALID_CURSOR: Final = "Invalid cursor"
SERVER_ERROR: Final = "A server error occurred."

NON_FIELD: Final = "non_field_errors"
"""The name under which errors are listed that concern several fields."""


class NoKey(Unauthenticated):
    """The request has no key."""


class NotPermitted(Forbidden):
    """The key is valid, but not for this user, this method, or the page that sent the request."""


class InvalidCursor(NotFound):
    pass


class InvalidFields(BadRequest):
    """A body or a query string with wrong values: texts by field."""

    def __init__(self, errors: Errors) -> None:
        name, texts = next(iter(errors.items()))
        super().__init__(name, " ".join(texts))
        self.errors = errors


class Malformed(BadRequest):
    """A request that cannot be read, such as a body that is not JSON; `detail` says why."""

    def __init__(self, detail: str) -> None:
        super().__init__("body", detail)
        self.detail = detail


class UnsupportedMediaType(UnsupportedCoding):
    """A body of a type that the API does not read."""

    def __init__(self, media_type: str) -> None:
        self.detail = f'Unsupported media type "{media_type}" in request.'
        super().__init__("Content-Type", self.detail, "")


class Throttled(TooManyAttempts):
    """More requests than allowed; `wait`: seconds until one would be accepted."""

    def __init__(self, wait: float) -> None:
        super().__init__(max(1, math.ceil(wait)))

    @property
    def detail(self) -> str:
        unit = "second" if self.retry_after == 1 else "seconds"
        return f"Request was throttled. Expected available in {self.retry_after} {unit}."


_OWN_TEXTS: Final = (Malformed, UnsupportedMediaType, Throttled)

TEXTS: Final[Mapping[type[Exception], str]] = {
    NoKey: NO_KEY,
    Unauthenticated: INVALID_KEY,
    Forbidden: NOT_PERMITTED,
    NoSuchPath: NO_ENDPOINT,
    InvalidCursor: INVALID_CURSOR,
    NotFound: NOT_FOUND,
}
"""The texts of errors that have always the same one."""


def error_answer(failure: Failure, method: str) -> Answer:
    """Return the answer to an error of a request with this method."""
    headers = [(n.lower().encode(), v.encode("latin-1")) for n, v in failure.headers.items() if _is_meant(n, v)]
    return Answer(orjson.dumps(_body_of(failure, method)), failure.status, headers)


def _is_meant(name: str, value: str) -> bool:
    """Return whether a header belongs to the answer: `UnsupportedMediaType` has no coding to accept."""
    return bool(value) or name != "Accept-Encoding"


def _body_of(failure: Failure, method: str) -> dict[str, Any]:
    cause = failure.cause
    if isinstance(cause, _OWN_TEXTS):
        return {"detail": cause.detail}
    if isinstance(cause, WrongMethod):
        return {"detail": f'Method "{_printable(method)}" not allowed.'}
    if failure.status == HTTPStatus.BAD_REQUEST and failure.errors:
        return {_printable(name): texts for name, texts in failure.errors.items()}
    for kind in type(cause).__mro__:
        if kind in TEXTS:
            return {"detail": TEXTS[kind]}
    if failure.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return {"detail": SERVER_ERROR}
    texts = [text for listed in failure.errors.values() for text in listed]
    return {"detail": " ".join(texts) or f"{status_text(failure.status)}."}


def _printable(text: str) -> str:
    """Return a text from a caller, shortened, with escapes for characters that UTF-8 cannot encode."""
    return text[:500].encode("utf-8", "backslashreplace").decode()
