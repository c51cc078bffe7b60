"""The storage of files: a folder, or a bucket with the S3 API, through obstore. Files have keys, and never change."""

from __future__ import annotations

import asyncio
import errno
import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import LocalStore, S3Store

from stores.bounds import Limit
from stores.errors import CannotOpen, NotFound, StorageFull, StoreError, Unavailable
from stores.fields.media import FILE_ID
from stores.read_turns import READER
from stores.threads import in_thread
from stores.turns import FairSemaphore

PART: Final = 5_242_880
"""Bytes of one part of an upload to a bucket, the fewest that S3 takes. Two of them are in memory at a time."""
PUT_AT_ONCE: Final = 8
"""Files that are stored at once, half of them of one user; others wait."""
PUT_WAIT_SECONDS: Final[Annotated[int, Limit("file", "seconds until it is stored", "503")]] = 60

STORAGE_SECONDS: Final[Annotated[int, Limit("request to the storage of files", "seconds", "503")]] = 30
"""Seconds for one request, and for all of its repetitions."""

_OWNER: Final = "owner"
"""The key of the file that names the database whose files are in this storage."""
_UNFINISHED: Final = re.compile(rf"{FILE_ID}(\.w[0-9]+)?#[0-9]+")
"""The name under which a file is written to a folder, until it is complete; `files` does not show it."""
_FULL: Final = tuple(f"os error {code}" for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
_FORM: Final = "HUB_MEDIA_URL must look like file:///srv/media or s3://bucket/folder?endpoint=https://host&region=name"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file in the storage. `time` is that of its last change, in Unix milliseconds."""

    key: str
    size: int
    time: int


class Storage:
    """The methods raise Unavailable if the storage does not answer, and StorageFull."""

    def __init__(self, bucket: S3Store | None = None, folder: Path | None = None) -> None:
        self._bucket = bucket
        self._folder = folder
        self._putting = FairSemaphore(PUT_AT_ONCE, PUT_AT_ONCE // 2)

    @classmethod
    def at(cls, url: str) -> Storage:
        """Return the storage at a URL. Raises CannotOpen, whose text does not contain the URL: it may hold a secret."""
        try:
            parts = urlsplit(url)
            if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path.startswith("/"):
                return cls.in_folder(Path(unquote(parts.path)))
            if parts.scheme == "s3" and parts.hostname:
                return cls(bucket=_bucket(parts))
        except (ValueError, BaseError) as error:
            raise CannotOpen(f"{_FORM}: {type(error).__name__}") from None
        raise CannotOpen(_FORM)

    @classmethod
    def in_folder(cls, folder: Path) -> Storage:
        """Return the storage in a folder, which is made when it is first used. Only its owner may enter it."""
        return cls(folder=folder.absolute())

    @cached_property
    def _store(self) -> LocalStore | S3Store:
        if self._bucket is not None:
            return self._bucket
        assert self._folder is not None
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return LocalStore(self._folder)

    async def claim(self, owner: str) -> None:
        """Note the owner of the storage, or check it. Raises Unavailable if it belongs to another: what one hub does
        not know, the other one does."""
        with translated():
            if await self.size(_OWNER) is None:
                with suppress(AlreadyExistsError):
                    await self._put_owner(owner.encode())
            if await self.read(_OWNER, 0, len(owner)) != owner.encode():
                raise Unavailable("the storage of files belongs to the hub of another database")

    async def _put_owner(self, owner: bytes) -> None:
        try:
            await obstore.put_async(self._store, _OWNER, owner, mode="create")
        except AlreadyExistsError:
            raise
        except BaseError:
            if self._folder is not None:
                raise
            # Some buckets refuse conditions on writes. What is there in the end is read back.
            await obstore.put_async(self._store, _OWNER, owner)
        if self._folder is not None:
            await in_thread(_sync, self._folder / _OWNER, self._folder)

    async def put(self, key: str, path: Path) -> None:
        """Store a file. It is durable on return. Users take turns."""
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(PUT_WAIT_SECONDS):
                    await stack.enter_async_context(self._putting.slot(READER.get()))
            except TimeoutError:
                raise Unavailable("the storage of files is slow, and others wait for it").at(
                    "PUT_WAIT_SECONDS"
                ) from None
            await self._put(key, path)

    async def _put(self, key: str, path: Path) -> None:
        with translated():
            await obstore.put_async(self._store, key, path, chunk_size=PART, max_concurrency=2)
            if self._folder is not None:
                await in_thread(_sync, self._folder / key, self._folder)

    async def read(self, key: str, start: int, end: int) -> bytes:
        """Return bytes of a file. Nothing stays open. Raises NotFound."""
        with translated():
            return bytes(await obstore.get_range_async(self._store, key, start=start, end=end))

    async def size(self, key: str) -> int | None:
        """Return the size of a file, None if there is none."""
        try:
            with translated():
                return (await obstore.head_async(self._store, key))["size"]
        except NotFound:
            return None

    async def delete(self, key: str) -> None:
        """Remove a file if there is one."""
        try:
            with translated():
                await obstore.delete_async(self._store, key)
        except NotFound:
            pass

    async def files(self) -> AsyncIterator[list[StoredFile]]:
        """Yield all files, in pieces of some hundreds."""
        with translated():
            async for page in obstore.list(self._store, chunk_size=500):
                yield [
                    StoredFile(each["path"], each["size"], int(each["last_modified"].timestamp() * 1000))
                    for each in page
                    if each["path"] != _OWNER
                ]

    async def remove_unfinished(self, before: int) -> None:
        """Remove what killed processes have begun to store in a folder until `before` (Unix ms). A bucket has a rule of
        its own for that."""
        if self._folder is not None:
            with translated():
                await in_thread(_remove_unfinished, self._folder, before)


def _bucket(parts: SplitResult) -> S3Store:
    """Return the bucket of a URL ``s3://key:secret@bucket/folder?endpoint=…&region=…``. What it leaves out comes from
    the usual variables, such as AWS_ACCESS_KEY_ID. Raises ValueError."""
    given = dict(parse_qsl(parts.query, strict_parsing=True)) if parts.query else {}
    if given.keys() - {"endpoint", "region"}:
        raise ValueError("unknown parameter")
    config: dict[str, Any] = {"region": given.get("region") or os.environ.get("AWS_REGION") or "us-east-1"}
    if "endpoint" in given:
        config["endpoint"] = given["endpoint"]
    if parts.username:
        config |= {"access_key_id": unquote(parts.username), "secret_access_key": unquote(parts.password or "")}
    return S3Store(
        parts.hostname,
        prefix=parts.path.strip("/") or None,
        client_options={
            "allow_http": given.get("endpoint", "").startswith("http://"),
            "connect_timeout": "5s",
            "timeout": f"{STORAGE_SECONDS}s",
        },
        retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=STORAGE_SECONDS)},
        **config,
    )


@contextmanager
def translated() -> Iterator[None]:
    """Raise errors of files and of obstore as NotFound, StorageFull and Unavailable."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound("no such file") from error
    except OSError as error:
        raise full_or_unavailable(error) from error
    except BaseError as error:
        if any(code in str(error) for code in _FULL):
            raise StorageFull("there is no room for files") from error
        if isinstance(error, PermissionDeniedError | UnauthenticatedError):
            raise Unavailable("the storage of files refuses the hub's credentials, or they lack a right") from error
        raise Unavailable(f"the storage of files does not answer: {type(error).__name__}") from error


def full_or_unavailable(error: OSError) -> StoreError:
    """Return the error for a file that could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or any(code in str(error) for code in _FULL):
        return StorageFull("there is no room for files")
    return Unavailable(f"the storage of files does not work: {error.strerror or type(error).__name__}")


def _remove_unfinished(folder: Path, before: int) -> None:
    for each in folder.glob("[0-9a-f][0-9a-f]/*#*"):
        with suppress(FileNotFoundError):
            if _UNFINISHED.fullmatch(each.name) and each.stat().st_mtime * 1_000 < before:
                each.unlink()


def _sync(path: Path, folder: Path) -> None:
    """Make a file durable, with its name and those of the folders down to it."""
    sync_file(path)
    while path != folder:
        path = path.parent
        sync_file(path)


def sync_file(path: Path) -> None:
    """Write a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
