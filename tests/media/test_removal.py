"""Removal of files that nothing has any more, and the commands that look after the files: on a hub in this process."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from auth.principal import Principal
from hub.app import assemble
from hub.media import sweeping
from hub.media.files import Upload
from hub.media.records import GONE, KEPT, FileRecord
from hub.media.serving import pieces_of
from hub.media.storage import Storage
from hub.running import Hub
from hub.settings import Settings
from stores.errors import Conflict, InvalidEntity, InvalidQuery, NotFound, Unavailable
from stores.query import WHOLE, Equal, Query
from stores.records import Change, Entity
from tests.media.uploading import png
from tests.support.engines import Database
from tests.support.hub import ADMIN_PASSWORD, SECRET_KEY, eventually

pytestmark = pytest.mark.gate("sqlite", "mongodb")

NOWHERE = "s3://key:secret@files?endpoint=http://127.0.0.1:9"
"""A storage that does not answer."""


@dataclass
class Bench:
    """A running hub in this process, with a store `houses`, and the caller of its services."""

    hub: Hub
    principal: Principal
    folder: Path
    url: str

    async def upload(self, content: bytes = b"text", field: str = "papers") -> tuple[Entity, FileRecord]:
        """Make an entity with one file; return the entity and the file's record."""
        files = self.hub.media.files
        [(text, _)] = await self.hub.entities.create(self.principal, "houses", [{}])
        id = text[8:32].decode()
        target = await files.target(self.principal, "houses", id, field)
        async with files.arriving("somebody") as path:
            path.write_bytes(content)
            async with files.ready(target, Upload(path, "a.txt", "text/plain")) as ready:
                await files.attach(target, ready, None)
        entity = await self.see(id)
        value: Any = entity[field]
        record = await self.hub.media.records.find((value[0] if isinstance(value, list) else value)["id"])
        assert record is not None
        return entity, record

    async def see(self, id: str) -> Entity:
        text, _ = await self.hub.entities.get(self.principal, "houses", id, WHOLE)
        entity: Entity = json.loads(text)
        return entity

    async def clear(self, entity: Entity) -> None:
        await self.hub.entities.change(self.principal, "houses", entity["_id"], {"papers": [], "photo": None}, None)

    async def is_stored(self, record: FileRecord) -> bool:
        return await self.hub.media.storage.size(record.key) is not None


@pytest.fixture
async def bench(
    database: Database, tmp_path: Path, storage_kind: str, request: pytest.FixtureRequest
) -> AsyncIterator[Bench]:
    url = f"file://{tmp_path}/storage"
    if storage_kind == "bucket":
        url = request.getfixturevalue("bucket_url").format(uuid.uuid4())
    async with running(database, tmp_path, url) as bench:
        fields = [{"id": "papers", "type": "File", "many": True}, {"id": "photo", "type": "Image"}]
        await bench.hub.entities.create(bench.principal, "stores", [{"name": "houses", "fields": fields}])
        yield bench


@asynccontextmanager
async def running(database: Database, folder: Path, url: str) -> AsyncIterator[Bench]:
    location = database.location if database.kind == "mongodb" else f"sqlite:///{database.location}"
    given: dict[str, Any] = {
        "admin_password": ADMIN_PASSWORD, "database_url": location, "secret_key": SECRET_KEY, "media_url": url,
    }  # fmt: skip
    hub = assemble(Settings(data_dir=folder, **given))
    async with hub.run():
        yield Bench(hub, await hub.resolver.resolve(hub.control_token), folder, url)


async def test_an_upload_without_its_commit_is_swept_after_an_hour(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then nothing touches it, and afterwards no commit can refer to it."""
    media = bench.hub.media
    entity, known = await bench.upload()
    path = bench.folder / "file"
    path.write_bytes(b"text")
    record = await media.records.add(
        FileRecord("", str(uuid.uuid4()), known.store, entity["_id"], "papers", "text/plain", 4, "a")
    )
    await media.storage.put(record.key, path)
    await media.keeper.remove_lost()
    await media.keeper.check(remove=True)
    assert await bench.is_stored(record)

    monkeypatch.setattr(sweeping, "HOUR", -60_000)  # everything is older than an hour
    await media.keeper.remove_lost()
    assert not await bench.is_stored(record)
    assert await media.records.find(record.file) is None
    assert await bench.is_stored(known)
    with pytest.raises(NotFound):
        await bench.hub.engine.commit([media.records.keeping(record)], None)


async def test_what_a_commit_has_kept_is_not_given_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    media = bench.hub.media
    entity, record = await bench.upload()
    monkeypatch.setattr(sweeping, "HOUR", -60_000)
    await media.records.give_up(record)
    report = await media.keeper.check(remove=True)
    assert (report.files, report.missing.count, report.unreferenced.count, report.unknown.count) == (1, 0, 0, 0)
    assert await bench.is_stored(record)
    assert [each["id"] for each in (await bench.see(entity["_id"]))["papers"]] == [record.file]


async def test_a_lost_file_is_removed_with_its_thumbnails(bench: Bench) -> None:
    media = bench.hub.media
    entity, record = await bench.upload(png(), "photo")
    thumbnail, _ = await media.thumbnails.find(record, 160)
    await bench.clear(entity)

    async def is_removed() -> bool:
        return [await media.storage.size(key) for key in (record.key, thumbnail)] == [None, None]

    await eventually(is_removed)
    with pytest.raises(NotFound):
        await media.access.find(record.file, None, None)  # type: ignore[arg-type]


async def test_no_thumbnail_outlives_its_image(bench: Bench) -> None:
    """One that is still being made when its image is removed is removed too."""
    media = bench.hub.media
    entity, record = await bench.upload(png(), "photo")
    making = asyncio.create_task(media.thumbnails.find(record, 320))
    await asyncio.sleep(0.05)
    await bench.clear(entity)
    await asyncio.gather(making, return_exceptions=True)

    async def is_removed() -> bool:
        known = await media.records.find(record.file)
        return known is None and await media.storage.size(f"{record.key}.w320") is None

    await eventually(is_removed)


async def test_a_storage_that_does_not_answer_delays_the_removal(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit takes effect at once, and what is to be removed is remembered."""
    media = bench.hub.media
    entity, record = await bench.upload()
    with monkeypatch.context() as patch:
        patch.setattr(media.keeper, "_storage", Storage.at(NOWHERE))
        await bench.clear(entity)

        async def is_noted() -> bool:
            now = await media.records.find(record.file)
            return now is not None and now.state == GONE

        await eventually(is_noted)
        with pytest.raises(Unavailable):
            await media.keeper.remove_lost()
    assert await bench.is_stored(record)
    await media.keeper.remove_lost()
    assert not await bench.is_stored(record)


async def test_changes_that_were_missed_are_made_up_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The feed has lost changes: all files are compared with their entities, an hour later, also by another process."""
    media = bench.hub.media
    _, kept = await bench.upload()
    _, lost = await bench.upload()
    await bench.hub.engine.commit([media.records.losing("0" * 24, [lost.file])], None)  # of another entity: ignored
    assert (await media.records.find(lost.file)).state == KEPT  # type: ignore[union-attr]
    monkey = FileRecord("", str(uuid.uuid4()), lost.store, "0" * 24, "papers", "text/plain", 4, "a")
    stray = await media.records.add(monkey)
    await bench.hub.engine.commit([media.records.keeping(stray)], None)
    lost_changes = [Change("", "lost", "houses", "", None, None, None, 0)]
    await media.keeper.note(lost_changes)
    await media.keeper._make_up()
    assert (await media.records.find(stray.file)).state == KEPT  # type: ignore[union-attr]
    monkeypatch.setattr(sweeping, "HOUR", -60_000)
    await media.keeper.note(lost_changes)

    async def is_gone() -> bool:
        return await media.records.find(stray.file) is None

    await eventually(is_gone)
    assert await bench.is_stored(kept)
    assert await bench.is_stored(lost)


async def test_a_check_finds_what_does_not_fit(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    media = bench.hub.media
    _, missing = await bench.upload()
    _, short = await bench.upload(b"a longer text")
    _, good = await bench.upload()
    path = bench.folder / "file"
    path.write_bytes(b"text")
    await media.storage.delete(missing.key)
    await media.storage.put(short.key, path)
    unknown = f"ab/ab{str(uuid.uuid4())[2:]}"
    await media.storage.put(unknown, path)
    await media.storage.put("of another program", path)

    report = await media.keeper.check(remove=False)
    assert (report.files, report.bytes) == (3, 4 + 13 + 4)
    assert sorted(report.missing.first) == sorted([missing.file, short.file])
    assert report.unknown.count == 0  # it is not an hour old
    monkeypatch.setattr(sweeping, "HOUR", -60_000)
    report = await media.keeper.check(remove=False)
    assert report.unknown.first == [unknown]
    assert await media.storage.size(unknown) is not None
    report = await media.keeper.check(remove=True)
    assert report.unknown.first == [unknown]
    assert await media.storage.size(unknown) is None
    assert await media.storage.size("of another program") == 4
    assert await bench.is_stored(good)


async def test_files_move_to_another_storage(bench: Bench, bucket_url: str) -> None:
    media = bench.hub.media
    _, first = await bench.upload(b"first")
    target = bucket_url.format(uuid.uuid4())
    moved = await media.keeper.move(target)
    assert (moved.copied, moved.bytes, moved.present) == (1, 5, 0)
    _, second = await bench.upload(b"second")
    moved = await media.keeper.move(target)
    assert (moved.copied, moved.bytes, moved.present, moved.missing.count) == (1, 6, 1, 0)
    for record, content in ((first, b"first"), (second, b"second")):
        storage = Storage.at(target)
        assert b"".join([piece async for piece in pieces_of(storage, record.key, 0, record.size)]) == content
    with pytest.raises(InvalidQuery):
        await media.keeper.move("https://example.com")


async def test_a_storage_belongs_to_one_database(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub of another database stores nothing in it, and so removes nothing from it."""
    _, record = await bench.upload()
    other = Database("sqlite", str(tmp_path / "other.db"))
    async with running(other, tmp_path / "other", bench.url) as second:
        fields = [{"id": "papers", "type": "File", "many": True}]
        await second.hub.entities.create(second.principal, "stores", [{"name": "houses", "fields": fields}])
        with pytest.raises(Unavailable, match="another database"):
            await second.upload()
        monkeypatch.setattr(sweeping, "HOUR", -60_000)
        for remove in (False, True):
            with pytest.raises(Unavailable, match="another database"):
                await second.hub.media.keeper.check(remove=remove)
    assert await bench.is_stored(record)


@pytest.mark.engine("sqlite")
async def test_what_a_killed_process_was_storing_is_removed(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The storage does not show it: its name says that it is not complete. A bucket has a rule of its own for that."""
    folder = tmp_path / "storage" / "ab"
    folder.mkdir(parents=True)
    unfinished, other = folder / f"{uuid.uuid4()}.w320#1", folder / "notes#1"
    for path in (unfinished, other):
        path.write_bytes(b"half")
    async with running(database, tmp_path, f"file://{tmp_path}/storage") as bench:
        await bench.hub.media.keeper.check(remove=True)
        assert unfinished.exists()
        monkeypatch.setattr(sweeping, "HOUR", -60_000)
        await bench.hub.media.keeper.check(remove=True)
    assert not unfinished.exists()
    assert other.exists()


async def test_a_file_that_cannot_be_removed_holds_up_no_others(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    media = bench.hub.media
    entities = [await bench.upload() for _ in range(3)]
    held = entities[0][1]
    delete = media.storage.delete

    async def refuse(key: str) -> None:
        if key == held.key:
            raise Unavailable("held")
        await delete(key)

    monkeypatch.setattr(media.storage, "delete", refuse)
    for entity, _ in entities:
        await bench.clear(entity)

    async def others_are_gone() -> bool:
        return not any([await bench.is_stored(record) for _, record in entities[1:]])

    await eventually(others_are_gone)
    assert await bench.is_stored(held)


async def test_an_entity_can_be_created_with_its_file(bench: Bench) -> None:
    """In one commit: another API may demand that each entity has one."""
    media = bench.hub.media
    target = media.files.new_target(bench.principal, "houses", "papers")
    async with media.files.arriving("somebody") as path:
        path.write_bytes(b"text")
        async with media.files.ready(target, Upload(path, "a.txt", "text/plain")) as ready:
            text, rev = await media.files.create(target, ready, {})
            with pytest.raises(InvalidEntity):
                await media.files.create(target, ready, {"unknown": 1})
    entity = json.loads(text)
    assert (entity["_id"], rev) == (target.id, 1)
    [value] = entity["papers"]
    readable = await media.access.find(value["id"], None, lambda: bench.hub.resolver.resolve(bench.hub.control_token))
    assert readable.record.entity == target.id
    report = await media.keeper.check(remove=False)
    assert (report.files, report.missing.count) == (1, 0)


async def test_nothing_is_left_of_a_failed_upload(bench: Bench) -> None:
    """The entity goes while the file arrives."""
    media = bench.hub.media
    [(text, _)] = await bench.hub.entities.create(bench.principal, "houses", [{}])
    id = text[8:32].decode()
    target = await media.files.target(bench.principal, "houses", id, "papers")
    await bench.hub.entities.delete(bench.principal, "houses", id, None)
    async with media.files.arriving("somebody") as path:
        path.write_bytes(b"text")
        async with media.files.ready(target, Upload(path, "a.txt", "text/plain")) as ready:
            with pytest.raises(NotFound):
                await media.files.attach(target, ready, None)

    async def is_empty() -> bool:
        return not await media.records.page() and not [each async for page in media.storage.files() for each in page]

    await eventually(is_empty)
    assert not [*(bench.folder / "incoming").iterdir()]


async def test_a_file_goes_though_its_field_is_none_of_files_now(bench: Bench) -> None:
    """An open store keeps the values of a field that is removed from its definition."""
    entity, record = await bench.upload()
    [definition] = await bench.hub.engine.entities("stores", Query(Equal(("name",), "houses")))
    fields = [field for field in definition["fields"] if field["type"] not in ("File", "Image")]
    await bench.hub.entities.change(bench.principal, "stores", definition["_id"], {"fields": fields}, None)
    assert "papers" in await bench.see(entity["_id"])
    await bench.hub.entities.delete(bench.principal, "houses", entity["_id"], None)

    async def is_gone() -> bool:
        return not await bench.is_stored(record)

    await eventually(is_gone)


async def test_one_command_runs_at_a_time(bench: Bench) -> None:
    keeper = bench.hub.media.keeper
    async with keeper.commanding():
        with pytest.raises(Conflict):
            async with keeper.commanding():
                pass
    async with keeper.commanding():
        pass
