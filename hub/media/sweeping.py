"""Removal of files that their entities have lost, and the commands that look after the files.

A consumer of the feed notes what entities lose; the notes are in the database. A loop in every process removes what is
noted from the storage, again and again while that does not answer. Nothing that an entity has lost can come back to it
(`hub.services.file_keeper`), so nothing is removed that a commit may still refer to.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Annotated, Final

from hub.media.incoming import IncomingFolder
from hub.media.reading import download
from hub.media.records import GONE, KEPT, PENDING, FileRecord, FileRecords
from hub.media.storage import Storage
from hub.media.thumbnails import Thumbnails, keys_of
from hub.services.registry import StoreRegistry
from hub.services.walking import each_entity
from stores.bounds import Limit
from stores.errors import CannotOpen, Conflict, ConsumerBehind, InvalidQuery, NotFound, StoreError
from stores.fields.media import FILE_ID, URL, files_of
from stores.options import ConsumerOptions
from stores.protocol import Engine, Write
from stores.query import Equal, In, Query
from stores.records import Change, Entity, now_ms

log = logging.getLogger(__name__)

CONSUMER: Final = "files"
LEASE: Final = 120.0
"""Seconds. Each of three renewals is a write, and nobody waits for what a killed process has left."""
COMPARED: Final = "files.compared"
"""The constant in the database with the time from which on all files must be compared; 0: they need not."""
HOUR: Final = 3_600_000
"""Milliseconds after which an upload without a commit has failed."""
MOST_LISTED: Final[Annotated[int, Limit("check of files", "files of each kind", "the rest is counted")]] = 100
_REMOVED_AT_ONCE: Final = 8
_KEY: Final = re.compile(rf"[0-9a-f]{{2}}/({FILE_ID})(?:\.w[0-9]+)?")


@dataclass
class Listed:
    """Files of one kind: their number, and the first of them."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, file: str) -> None:
        self.count += 1
        if len(self.first) < MOST_LISTED:
            self.first.append(file)


@dataclass
class Report:
    """What a check has found. `files`: those that entities have, of `bytes` together. `missing`: those of them that are
    not in the storage, or not whole. `unreferenced`: records of files that no entity has. `unknown`: files in the
    storage without a record. The last two are `removed` by a sweep."""

    files: int = 0
    bytes: int = 0
    missing: Listed = field(default_factory=Listed)
    unreferenced: Listed = field(default_factory=Listed)
    unknown: Listed = field(default_factory=Listed)
    removed: bool = False


@dataclass
class Moved:
    """`copied` files of `bytes`; `present`: those that were there already; `missing`: those that are in neither."""

    copied: int = 0
    bytes: int = 0
    present: int = 0
    missing: Listed = field(default_factory=Listed)


class MediaKeeper:
    """`interval`: seconds between two rounds of removal. `lost` is set when there may be something to remove."""

    def __init__(
        self,
        engine: Engine,
        registry: StoreRegistry,
        records: FileRecords,
        storage: Storage,
        incoming: IncomingFolder,
        thumbnails: Thumbnails,
        lost: asyncio.Event,
        interval: float,
    ) -> None:
        self._engine = engine
        self._registry = registry
        self._records = records
        self._storage = storage
        self._incoming = incoming
        self._thumbnails = thumbnails
        self._lost = lost
        self._interval = interval
        self._is_commanded = False

    # Following the feed.

    async def follow(self) -> None:
        """Note what entities lose, until cancelled."""
        options = ConsumerOptions(lease_seconds=LEASE, most_attempts=None)
        consumer = self._engine.consumer(CONSUMER, self.note, options)
        while True:
            try:
                await consumer.run()
            except ConsumerBehind:
                with suppress(StoreError):  # then it is behind again
                    await self._compare_later()
                    await consumer.restart_at()
                await asyncio.sleep(1)

    async def note(self, changes: Sequence[Change]) -> None:
        """Note the files that entities have lost by these changes. Repeating it does no harm."""
        writes: list[Write] = []
        for change in changes:
            if change.op == "lost":
                await self._compare_later()
            elif change.op != "insert" and change.may_have_had(URL):
                # Whatever the definition says now: a field that was one of files may have become another.
                gone = ids_in(change.before) - ids_in(change.after)
                if gone:
                    writes.append(self._records.losing(change.id, sorted(gone)))
        if writes:
            await self._engine.commit(writes, None)
            self._lost.set()

    async def _compare_later(self) -> None:
        """Note that all files must be compared with their entities, an hour from now unless it is due before: entities
        that another program takes away may be back until then, as when it restores a collection."""
        log.warning("changes were missed: all files will be compared with their entities")
        now = now_ms()
        if not now < await self._comparison_due() <= now + HOUR:  # one that is going on may have passed what is missed
            await self._engine.stored_constant(COMPARED, str(now + HOUR), replace=True)
        self._lost.set()

    async def _make_up(self) -> None:
        """Compare all files with their entities, if that is due. Changes that are missed meanwhile make it due
        again."""
        due = await self._comparison_due()
        if 0 < due <= now_ms():
            await self._compare(Report(removed=True))
            if await self._comparison_due() == due:
                await self._engine.stored_constant(COMPARED, "0", replace=True)

    async def _comparison_due(self) -> int:
        """Return the Unix ms from which on the files must be compared; 0 if they need not."""
        return int(await self._engine.read_constant(COMPARED) or 0)

    # Removing.

    async def remove(self) -> None:
        """Remove files, again after each `interval` and when some are lost, until cancelled."""
        scan_at = -math.inf
        while True:
            self._lost.clear()
            steps = [self._make_up, self.remove_lost, self._incoming.sweep]
            now = asyncio.get_running_loop().time()
            if now >= scan_at:
                scan_at = now + HOUR / 1_000
                steps.append(lambda: self._storage.remove_unfinished(now_ms() - HOUR))
            for step in steps:  # each for itself: while one fails, the others still do their work
                await _logged(step)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._lost.wait()

    async def remove_lost(self) -> None:
        """Remove the files that are noted, and those of uploads that have failed. One that cannot be removed holds up
        no others. Raises Unavailable if none can."""
        await self._records.expire(now_ms() - HOUR)
        after = ""
        while page := await self._records.page(after, (GONE,)):
            for start in range(0, len(page), _REMOVED_AT_ONCE):
                records = page[start : start + _REMOVED_AT_ONCE]
                results = await asyncio.gather(*map(self._remove, records), return_exceptions=True)
                failures = [result for result in results if isinstance(result, BaseException)]
                if len(failures) == len(records):
                    raise failures[0]  # the storage does not answer
                if failures:
                    log.warning("%d files cannot be removed: %s", len(failures), failures[0])
            after = page[-1].id

    async def _remove(self, record: FileRecord) -> None:
        self._thumbnails.forget(record)
        for key in keys_of(record) if record.width is not None else [record.key]:
            await self._storage.delete(key)
        await self._records.forget(record)

    # Commands.

    @asynccontextmanager
    async def commanding(self) -> AsyncIterator[None]:
        """Hold the turn of a command while the block runs. Raises Conflict while another one runs in this process."""
        if self._is_commanded:
            raise Conflict("another command looks after the files: wait for its end")
        self._is_commanded = True
        try:
            yield
        finally:
            self._is_commanded = False

    async def check(self, *, remove: bool) -> Report:
        """Compare entities, records and storage. With `remove`, remove what nothing has. What is younger than an hour
        is left alone: an upload may be on its way."""
        await self._storage.claim(await self._records.owner())  # what it has of another hub's is not unknown
        report = Report(removed=remove)
        await self._compare(report, look=True)
        await self._find_unknown(report)
        if remove:
            await self.remove_lost()
            await self._storage.remove_unfinished(now_ms() - HOUR)
        return report

    async def move(self, url: str) -> Moved:
        """Copy all files to another storage, as HUB_MEDIA_URL names it. It can be repeated: what is there already is
        not copied again. Raises InvalidQuery for a URL of another form."""
        try:
            target = Storage.at(url)
        except CannotOpen as error:
            raise InvalidQuery("url", str(error)) from error
        await target.claim(await self._records.owner())
        moved, after = Moved(), ""
        while page := await self._records.page(after, (KEPT, PENDING)):
            for record in page:
                await self._copy(record, target, moved)
            after = page[-1].id
        return moved

    async def _copy(self, record: FileRecord, target: Storage, moved: Moved) -> None:
        if await target.size(record.key) == record.size:
            moved.present += 1
            return
        try:
            async with self._incoming.path() as path:
                await download(self._storage, record.key, record.size, path)
                await target.put(record.key, path)
        except NotFound:
            moved.missing.add(record.file)
            return
        moved.copied += 1
        moved.bytes += record.size

    async def _compare(self, report: Report, *, look: bool = False) -> None:
        """Add the files of all entities to the report, and note those that no entity has if they are to be removed.
        With `look`, the storage is asked for each, and files of the last hour are left alone."""
        after, late = "", now_ms() - HOUR
        while page := await self._records.page(after, (KEPT,)):
            used = await self._used(page)
            unused = [each for each in page if each.file not in used and (each.time < late or not look)]
            for record in unused:
                report.unreferenced.add(record.file)
            if report.removed and unused:
                await self._engine.commit([self._records.losing(each.entity, [each.file]) for each in unused], None)
                self._lost.set()
            for record in page:
                if record.file in used:
                    report.files += 1
                    report.bytes += record.size
                    if look and await self._storage.size(record.key) != record.size:
                        report.missing.add(record.file)
            after = page[-1].id

    async def _used(self, page: Sequence[FileRecord]) -> set[str]:
        """Return the files of these records that their entities have, also in fields that are none of files now."""
        used: set[str] = set()
        by_store: dict[str, list[FileRecord]] = {}
        for record in page:
            by_store.setdefault(record.store, []).append(record)
        for id, records in by_store.items():
            definition = self._registry.defined_by(id)
            if definition is not None:
                wanted = In(("_id",), tuple({record.entity for record in records}))
                found = {e["_id"]: ids_in(e) async for e in each_entity(self._engine, definition.name, wanted)}
                used |= {record.file for record in records if record.file in found.get(record.entity, ())}
            elif await self._engine.entities("stores", Query(Equal(("_id",), id), limit=1)):
                # It is defined, and not in force in this process: what its entities have is not known.
                used |= {record.file for record in records}
        return used

    async def _find_unknown(self, report: Report) -> None:
        late = now_ms() - HOUR
        async for page in self._storage.files():
            keys = {each.key: found[1] for each in page if (found := _KEY.fullmatch(each.key)) and each.time < late}
            known = {record.file for record in await self._records.among([*set(keys.values())])}
            for key, file in keys.items():
                if file not in known:
                    report.unknown.add(key)
                    if report.removed:
                        await self._storage.delete(key)


async def _logged(step: Callable[[], Awaitable[None]]) -> None:
    """Do one step of the removal; log its failure."""
    try:
        await step()
    except (StoreError, OSError) as error:
        log.warning("files that are not needed are still there: %s: %s", type(error).__name__, error)
    except Exception:
        log.exception("the removal of files failed")


def ids_in(entity: Entity | None) -> set[str]:
    """Return the ids of all files in the fields of an entity."""
    return {file["id"] for value in _values(entity) for file in files_of(value)}


def _values(entity: Entity | None) -> Iterable[object]:
    return () if entity is None else (value for value in entity.values() if isinstance(value, dict | list))
