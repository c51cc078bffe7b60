"""Every error that a caller can receive, with its HTTP status. Each dialect renders them from one table.

HubError
├── BadRequest              the request is wrong: `errors` gives the reason for each field
│   ├── BodyTooLarge        the body is beyond its limit
│   └── UnsupportedCoding   the hub does not support the body's compression
├── HeadTooLarge            the request line and headers are beyond their limit
├── WrongHost               the Host header is none of the hub's names
├── ExpectationFailed       the hub does not support the Expect header's value
├── WrongWebSocketVersion   the hub does not support this version of the WebSocket protocol
├── NoSuchPath              no such path (an invisible entity is `stores.errors.NotFound`)
│   └── NothingAtRoot       the path is `/`: `errors` says where the API is
├── NoSuchStore             no such store; also a `stores.errors.NotFound`
├── WrongMethod             the path does not support this method
├── NotModified             the caller's copy is current
├── RangeNotSatisfiable     the range that is asked for begins behind the end of the file
├── Overloaded              more requests, connections or bytes at once than the hub accepts
├── TooSlow                 the head or the body did not arrive in time
├── AnswerBroken            the database failed while an answer was being sent; the answer is cut off
└── ClientGone              the client disconnected before the end of its request or its answer
    └── ClientTooSlow       the client did not read the answer in time; the answer is cut off

stores.errors.StoreError
└── RequestFailed           one request of a batch fails, for the reason that it holds

`stores.errors`, `auth.errors` and `hub.media.errors` define the other errors that services raise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from auth import errors as auth
from hub.media import errors as media
from stores import errors as stores
from stores.bounds import Limited
from stores.rule_texts import RULES

Errors = Mapping[str, list[str]]

RETRY_AFTER = 1
"""Seconds after which a caller may try again while the database is unavailable or the hub is overloaded."""


class HubError(Limited):
    """Base of the errors that the application raises on purpose."""


class BadRequest(HubError):
    def __init__(self, field: str, text: str) -> None:
        super().__init__(f"{field}: {text}")
        self.errors: Errors = {field: [text]}


class BodyTooLarge(BadRequest):
    pass


class UnsupportedCoding(BadRequest):
    """`accepted`: the supported codings."""

    def __init__(self, field: str, text: str, accepted: str) -> None:
        super().__init__(field, text)
        self.accepted = accepted


class HeadTooLarge(HubError):
    def __init__(self, limit: int) -> None:
        super().__init__(f"the head must not exceed {limit} bytes")


class ExpectationFailed(HubError):
    pass


class WrongWebSocketVersion(HubError):
    pass


class NoSuchPath(HubError):
    pass


class NothingAtRoot(NoSuchPath):
    """`prefix`: the prefix of the hub's public paths, without a slash at its end."""

    def __init__(self, prefix: str) -> None:
        super().__init__(f"{prefix}/")
        text = f"This is a hub: its API begins at {prefix}/api/v1, and {prefix}/api/v1/openapi.json describes it."
        self.errors: Errors = {"path": [text]}


class WrongHost(HubError):
    def __init__(self, host: str) -> None:
        super().__init__(f"the hub does not answer for {host}")
        self.errors: Errors = {"Host": ["The hub does not answer to this name."]}


class NoSuchStore(stores.NotFound):
    """`revealed`: the caller may list stores, so the error may say that the store does not exist."""

    def __init__(self, name: str, *, revealed: bool) -> None:
        super().__init__(f"no store {name}")
        self.errors: Errors = {"store": [f"There is no store {name!r}."]} if revealed else {}


class RequestFailed(stores.StoreError):
    """The request at position `index` of a batch fails with `reason`: the batch is answered with the same status."""

    def __init__(self, index: int, reason: Exception) -> None:
        super().__init__(f"requests.{index}: {reason}")
        self.index = index
        self.reason = reason
        if isinstance(reason, Limited):
            self.limit_name = reason.limit_name


class WrongMethod(HubError):
    def __init__(self, allowed: tuple[str, ...]) -> None:
        super().__init__(f"allowed: {', '.join(allowed)}")
        self.allowed = allowed


class NotModified(HubError):
    def __init__(self, etag: str) -> None:
        super().__init__(etag)
        self.etag = etag


class RangeNotSatisfiable(HubError):
    """`size`: the bytes that there are."""

    def __init__(self, size: int) -> None:
        super().__init__(f"there are {size} bytes")
        self.size = size


class TooSlow(HubError):
    pass


class Overloaded(HubError):
    """The hub's capacity is exhausted. `errors` names the resource, unless it is the number of requests. `retry_after`:
    seconds."""

    def __init__(self, cause: str, field: str = "", text: str = "", retry_after: int = RETRY_AFTER) -> None:
        super().__init__(cause)
        self.retry_after = retry_after
        self.errors: Errors = {field: [text]} if field else {}


class AnswerBroken(HubError):
    pass


class ClientGone(HubError):
    pass


class ClientTooSlow(ClientGone):
    pass


@dataclass(frozen=True, slots=True)
class Failure:
    """An error in the form that dialects render. `tags` are stable codes; `errors` are texts per field. `cause` is the
    error itself, for dialects that distinguish more errors."""

    status: HTTPStatus
    tags: tuple[str, ...]
    errors: Errors = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    cause: Exception | None = None


STATUS: Mapping[type[Exception], HTTPStatus] = {
    BadRequest: HTTPStatus.BAD_REQUEST,
    BodyTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    UnsupportedCoding: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HeadTooLarge: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
    WrongWebSocketVersion: HTTPStatus.UPGRADE_REQUIRED,
    NoSuchPath: HTTPStatus.NOT_FOUND,
    WrongHost: HTTPStatus.MISDIRECTED_REQUEST,
    WrongMethod: HTTPStatus.METHOD_NOT_ALLOWED,
    RangeNotSatisfiable: HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
    TooSlow: HTTPStatus.REQUEST_TIMEOUT,
    Overloaded: HTTPStatus.SERVICE_UNAVAILABLE,
    ClientGone: HTTPStatus.REQUEST_TIMEOUT,
    auth.Unauthenticated: HTTPStatus.UNAUTHORIZED,
    auth.Forbidden: HTTPStatus.FORBIDDEN,
    auth.CrossSite: HTTPStatus.FORBIDDEN,
    auth.TooManyAttempts: HTTPStatus.TOO_MANY_REQUESTS,
    media.BadImage: HTTPStatus.BAD_REQUEST,
    media.MediaBusy: HTTPStatus.SERVICE_UNAVAILABLE,
    stores.InvalidQuery: HTTPStatus.BAD_REQUEST,
    stores.FilterTooCostly: HTTPStatus.BAD_REQUEST,
    stores.InvalidEntity: HTTPStatus.BAD_REQUEST,
    stores.TooManyMatches: HTTPStatus.BAD_REQUEST,
    stores.TooManyConsequences: HTTPStatus.BAD_REQUEST,
    stores.TooManyLists: HTTPStatus.TOO_MANY_REQUESTS,
    stores.NotFound: HTTPStatus.NOT_FOUND,
    stores.Conflict: HTTPStatus.CONFLICT,
    stores.DuplicateValue: HTTPStatus.CONFLICT,
    stores.DataConflict: HTTPStatus.CONFLICT,
    stores.KeyReused: HTTPStatus.CONFLICT,
    stores.StoreNotEmpty: HTTPStatus.CONFLICT,
    stores.StaleRevision: HTTPStatus.PRECONDITION_FAILED,
    stores.HistoryGone: HTTPStatus.GONE,
    stores.Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    stores.StorageFull: HTTPStatus.INSUFFICIENT_STORAGE,
}

# Status texts are the established ones of RFC 7231; newer Python versions use other names.
_TEXTS = {
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "Payload Too Large",
    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE: "Range Not Satisfiable",
}

_FURTHER_TAGS: Mapping[HTTPStatus, tuple[str, ...]] = {
    HTTPStatus.FORBIDDEN: ("error_credentials", "error_forbidden"),
    HTTPStatus.GONE: ("error_resync_required", "error_gone"),
}

_OWN_TAGS: Mapping[type[Exception], tuple[str, ...]] = {
    stores.FilterTooCostly: ("error_filter_too_costly", "error_bad_request"),
    auth.CodeRequired: ("error_code_required", "error_unauthorized"),
}
"""Tags of errors that differ from those of their status."""


def status_text(status: HTTPStatus) -> str:
    return _TEXTS.get(status, status.phrase)


def tags_of(status: HTTPStatus) -> tuple[str, ...]:
    """Return ``error_`` and the status text in snake case, or the special tags of the status."""
    plain = "error_" + status_text(status).lower().replace(" ", "_").replace("-", "_")
    return _FURTHER_TAGS.get(status, (plain,))


def describe(error: Exception) -> Failure:
    """Return the Failure that answers `error`. An error of unknown type is an internal error; only the log gets its
    cause."""
    if isinstance(error, RequestFailed):
        return _describe_request(error)
    kind = next((k for k in type(error).__mro__ if k in STATUS), None)
    status = STATUS[kind] if kind else HTTPStatus.INTERNAL_SERVER_ERROR
    tags = _OWN_TAGS.get(type(error)) or tags_of(status)
    return Failure(status, tags, _errors(error), _headers(error), error)


def _describe_request(error: RequestFailed) -> Failure:
    """Return the Failure of a batch, whose errors name the request at fault."""
    found = describe(error.reason)
    location = f"requests.{error.index}"
    errors = {f"{location}.{name}": texts for name, texts in found.errors.items()}
    if not errors:
        errors = {location: [f"This request fails: {found.status.value} {status_text(found.status)}."]}
    return Failure(found.status, found.tags, errors, found.headers, error)


def is_expected(error: Exception) -> bool:
    """Return whether the server failed for an expected reason: the database is unavailable or full, or the hub is
    overloaded."""
    return describe(error).status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.INSUFFICIENT_STORAGE)


def _errors(error: Exception) -> Errors:
    match error:
        case BadRequest() | NothingAtRoot() | NoSuchStore() | WrongHost() | Overloaded():
            return error.errors
        case ExpectationFailed():
            return {"Expect": ["Takes 100-continue."]}
        case WrongWebSocketVersion():
            return {"Sec-WebSocket-Version": ["Must be 13."]}
        case stores.InvalidEntity():
            found: dict[str, list[str]] = {}
            for v in error.violations:
                found.setdefault(v.location, []).append(RULES[v.rule].format(detail=v.detail))
            return found
        case media.Explained():
            return {error.field: [error.text]}
        case auth.Explained():
            return {error.field: [error.text]}
        case auth.MissingScheme():
            return {"Authorization": ["Write Bearer before the token: Authorization: Bearer TOKEN"]}
        case stores.InvalidQuery():
            return {error.field: [error.message]}
        case stores.FilterTooCostly():
            return {"filter": ["This filter takes too many steps over one entity: ask for less of long arrays."]}
        case stores.TooManyMatches():
            return {"filter": [f"More than {error.limit} entities match: narrow the filter."]}
        case stores.TooManyConsequences():
            text = f"With what goes with it, more than {error.most} would change ({named(error.limit_name)})."
            return {error.field: [text]}
        case stores.TooManySlowReads():
            return {"query": ["Too many reads that take long are waiting: try again, or ask for less."]}
        case stores.ReadTimeout():
            return {"query": ["This takes too long: ask for less, or for what an index leads to."]}
        case stores.TooManySlowWrites():
            limit = f" ({named(error.limit_name)})" if error.limit_name else ""
            return {"body": [f"Too many changes that take long are waiting{limit}: try again. Nothing was changed."]}
        case stores.ComputedTooLong():
            text = f"Computing these changes takes longer than {error.seconds:g} seconds ({named(error.limit_name)})"
            return {"body": [f"{text}: send fewer of them, or narrow the filter. Nothing was changed."]}
        case stores.DataChanging():
            text = f"The entities of {error.store} are being changed with its definition: until then only reads work."
            return {"store": [text]}
        case stores.TooManyLists():
            text = "You are reading as many long lists at once as HUB_MAX_LONG_LISTS_PER_USER allows: try again."
            return {"query": [text]}
        case stores.Unavailable() if error.limit_name:
            text = str(error)
            return {"query": [f"{text[:1].upper()}{text[1:]} ({named(error.limit_name)}): try again."]}
        case stores.DuplicateValue():
            return {field: [_duplicate_text(error)] for field in error.fields}
        case stores.DataConflict():
            return {name: [text] for name, text in error.found.items()}
        case stores.KeyReused():
            return {"Idempotency-Key": ["This key came with another request before."]}
        case stores.Conflict() if error.args and not isinstance(error, stores.StaleRevision):
            return {"_id": [str(error)]}
    return {}


def _duplicate_text(error: stores.DuplicateValue) -> str:
    if len(error.fields) == 1:
        return RULES["duplicate"]
    # The position of the item in an array of bodies is a part of each field.
    names = [field.removeprefix(f"{error.index}.") for field in error.fields]
    return RULES["duplicate_together"].format(detail=", ".join(names))


def named(limit: str) -> str:
    """Return the name of a limit as docs/limits.md lists it."""
    return limit if limit.isupper() else f"HUB_{limit.upper()}"


def _headers(error: Exception) -> Mapping[str, str]:
    match error:
        case WrongMethod():
            return {"Allow": ", ".join(error.allowed)}
        case auth.TooManyAttempts() | media.MediaBusy():
            return {"Retry-After": str(error.retry_after)}
        case Overloaded():
            return {"Retry-After": str(error.retry_after)}
        case stores.Unavailable() | stores.TooManyLists():
            return {"Retry-After": str(RETRY_AFTER)}
        case WrongWebSocketVersion():
            # RFC 6455, 4.4; RFC 9110, 15.5.22 and 7.8
            return {"Sec-WebSocket-Version": "13", "Upgrade": "websocket", "Connection": "upgrade, close"}
        case RangeNotSatisfiable():
            return {"Content-Range": f"bytes */{error.size}"}
        case UnsupportedCoding():
            return {"Accept-Encoding": error.accepted}
        case BodyTooLarge() | TooSlow():
            return {"Connection": "close"}  # the rest of the body is not read
        case auth.Unauthenticated():
            return {"WWW-Authenticate": "Bearer"}
    return {}
