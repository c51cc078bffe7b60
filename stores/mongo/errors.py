"""Translation of PyMongo's errors to `stores.errors`.

Source of the codes: MongoDB's `src/mongo/base/error_codes.yml`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Annotated, Any, Final

from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    DocumentTooLarge,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
)

from stores.bounds import Limit
from stores.errors import (
    DuplicateValue,
    EntityTooLarge,
    InvalidEntity,
    InvalidQuery,
    NotFound,
    ParallelArrays,
    ReadTimeout,
    StorageFull,
    StoreError,
    Unavailable,
    Violation,
)

DUPLICATE_KEY: Final = 11000
NAMESPACE_EXISTS: Final = 48
NAMESPACE_NOT_FOUND: Final = 26
INDEX_NOT_FOUND: Final = 27
SNAPSHOT_UNAVAILABLE: Final = 246
UUID_MISMATCH: Final = 361
UNAUTHORIZED: Final = 13
TYPE_MISMATCH: Final = 14
WRITE_CONFLICT: Final = 112
PARALLEL_ARRAYS: Final = 171
AUTHENTICATION_FAILED: Final = (18, 8000)  # 8000 is the code of Atlas

MOST_DOCUMENT_BYTES: Annotated[int, Limit("entity on MongoDB", "bytes", "400")] = 16_777_216
"""Bytes of an entity as BSON, in which numbers may take more bytes than in JSON text."""

# BadValue, FailedToParse, Overflow (nested too deep), and four of the query parser's.
_BAD_QUERY: Final = frozenset({2, 9, 15, 40324, 51091, 51108, 5729100})
_TOO_LARGE: Final = frozenset({10334, 17419, 17420})
_PARALLEL: Final = re.compile(r"parallel arrays \[(.*)\] \[(.*)\]", re.DOTALL)
_TRANSACTION_TOO_LARGE: Final = 388
_DISK_FULL: Final = 14031
_REFUSED_BY_VALIDATOR: Final = 121
_PASSING: Final = frozenset(
    {
        6,  # HostUnreachable
        7,  # HostNotFound
        13,  # Unauthorized: the operator is changing rights
        18,  # AuthenticationFailed
        24,  # LockTimeout
        43,  # CursorNotFound
        46,  # LockBusy
        50,  # MaxTimeMSExpired
        64,  # WriteConcernFailed
        89,  # NetworkTimeout
        91,  # ShutdownInProgress
        100,  # UnsatisfiableWriteConcern
        112,  # WriteConflict
        133,  # FailedToSatisfyReadPreference
        134,  # ReadConcernMajorityNotAvailableYet
        189,  # PrimarySteppedDown
        202,  # NetworkInterfaceExceededTimeLimit
        239,  # SnapshotTooOld
        246,  # SnapshotUnavailable
        251,  # NoSuchTransaction
        262,  # ExceededTimeLimit
        365,  # TemporarilyUnavailable
        9001,  # SocketException
        10058,  # LegacyNotPrimary
        10107,  # NotWritablePrimary
        11600,  # InterruptedAtShutdown
        11601,  # Interrupted
        11602,  # InterruptedDueToReplStateChange
        12587,  # BackgroundOperationInProgressForNamespace: an index is being built
        13388,  # StaleConfig
        13435,  # NotPrimaryNoSecondaryOk
        13436,  # NotPrimaryOrSecondary
    }
)
_PASSING_LABELS: Final = (
    "TransientTransactionError",
    "UnknownTransactionCommitResult",
    "RetryableWriteError",
    "ResumableChangeStreamError",
    "SystemOverloadedError",
)


class _Translation:
    """The context of `store_errors`: an object without state, since every read and commit enters it."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, PyMongoError):
            translated = translate(error)
            if translated is not None:
                raise translated from error
        elif isinstance(error, DocumentTooLarge):
            raise _too_large() from error


_TRANSLATION: Final = _Translation()


def store_errors() -> AbstractContextManager[None]:
    """Raise PyMongo's errors as StoreError. Errors without a translation (defects of the hub) pass unchanged."""
    return _TRANSLATION


@contextmanager
def refusals_at(index: int, indexes: Sequence[int] | None = None) -> Iterator[None]:
    """Raise the refusal of an entity by an index, as DuplicateValue or ParallelArrays, with the position `index` in the
    commit.

    For a bulk write, the index of its failed operation is added: that in `indexes`, if given, or else its number.
    """
    try:
        yield
    except (BulkWriteError, OperationFailure) as error:
        refusal = _duplicate(error) or _parallel(error)
        if refusal is None:
            raise
        refusal.index = index + (refusal.index if indexes is None else indexes[refusal.index])
        raise refusal from error


def translate(error: PyMongoError) -> StoreError | None:
    """Return the corresponding StoreError, or None."""
    if is_storage_full(error):
        return StorageFull("the database has no space left")
    if isinstance(error, ExecutionTimeout):
        return ReadTimeout()
    if is_passing(error):
        return Unavailable(f"the database does not answer: {type(error).__name__}")
    if not isinstance(error, OperationFailure):
        return None
    refusal = _duplicate(error) or _parallel(error)
    if refusal is not None:
        return refusal
    code = code_of(error)
    if code == _REFUSED_BY_VALIDATOR:
        return NotFound("the store is being deleted")  # only the collection of a deleted store has a validator
    if code in _TOO_LARGE:
        return _too_large()
    if is_beyond_cache(error):
        return beyond_cache()
    if code in _BAD_QUERY:
        return _bad_query(error)
    return None


def is_passing(error: PyMongoError) -> bool:
    """Return whether a retry may succeed: the database was unreachable, electing, overloaded or in conflict."""
    if isinstance(error, ConnectionFailure | WaitQueueTimeoutError) or error.timeout:
        return True
    if isinstance(error, ConfigurationError):
        # PyMongo raises this when a member steps down or returns. A deployment without sessions is rejected at the
        # start.
        return "Sessions are not supported" in str(error)
    return code_of(error) in _PASSING or any(map(error.has_error_label, _PASSING_LABELS))


def is_changing_primary(error: PyMongoError) -> bool:
    """Return whether a retry may succeed at once. Without any primary for the time of server selection, or without the
    rights, it cannot."""
    refused = (UNAUTHORIZED, *AUTHENTICATION_FAILED)
    return is_passing(error) and not isinstance(error, ServerSelectionTimeoutError) and code_of(error) not in refused


def is_of_wrong_type(error: PyMongoError) -> bool:
    """Return whether a change failed on a value of the wrong type, such as a text to which 1 is added."""
    return code_of(error) == TYPE_MISMATCH


def is_storage_full(error: PyMongoError) -> bool:
    return code_of(error) == _DISK_FULL or "No space left" in str(error)


def is_beyond_cache(error: PyMongoError) -> bool:
    """Return whether a transaction changed more than fitted into the server's cache beside other transactions."""
    return code_of(error) == _TRANSACTION_TOO_LARGE


def beyond_cache() -> InvalidEntity:
    """Return the error for a commit that changes more than the server's cache can hold."""
    text = (
        "This changes more than the cache of the database can hold: change less at once, or let the operator give "
        "MongoDB a larger cache (cacheSizeGB). Nothing was changed."
    )
    return InvalidEntity([Violation("body", "invalid", text)])


def _too_large() -> EntityTooLarge:
    return EntityTooLarge(MOST_DOCUMENT_BYTES, "MOST_DOCUMENT_BYTES")


def _bad_query(error: OperationFailure) -> InvalidQuery:
    text = str((error.details or {}).get("errmsg", error))
    if "parallel arrays" in text:
        return InvalidQuery("sort", "cannot sort by two different arrays of one entity")
    return InvalidQuery("filter", "the database cannot answer this query")


def code_of(error: PyMongoError) -> int | None:
    """Return the server's code of the error; for a bulk write, of its first failed operation, or else of the failure to
    make it durable."""
    if isinstance(error, BulkWriteError):
        code = _first_error(error).get("code")
        return code if isinstance(code, int) else error.code
    return error.code if isinstance(error, OperationFailure) else None


def _duplicate(error: PyMongoError) -> DuplicateValue | None:
    if code_of(error) != DUPLICATE_KEY:
        return None
    details = _details(error)
    field, *others = details.get("keyPattern") or ["_id"]
    return DuplicateValue(field, int(details.get("index", 0)), others)


def _parallel(error: PyMongoError) -> ParallelArrays | None:
    names = parallel_arrays(error)
    return None if names is None else ParallelArrays(*names, int(_details(error).get("index", 0)))


def parallel_arrays(error: PyMongoError) -> tuple[str, str] | None:
    """Return the last segments of the two paths by which an index refuses an entity, the later one first, or None."""
    found = _PARALLEL.search(str(_details(error).get("errmsg"))) if code_of(error) == PARALLEL_ARRAYS else None
    return None if found is None else (found[1], found[2])


def _details(error: PyMongoError) -> Mapping[str, Any]:
    if isinstance(error, BulkWriteError):
        return _first_error(error)
    return (isinstance(error, OperationFailure) and error.details) or {}


def _first_error(error: BulkWriteError) -> Mapping[str, Any]:
    details = error.details or {}
    refused = details.get("writeErrors") or details.get("writeConcernErrors") or [{}]
    first: Mapping[str, Any] = refused[0]
    return first
