"""A hub for the tests of files, once with a folder and once with a bucket as its storage."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest

from tests.media import bucket
from tests.media.uploading import own_files
from tests.support.engines import fitting_database
from tests.support.hub import Client, Hub, running_hub, unique
from tests.support.ports import free_port
from tests.support.program import PYTHON

STORAGES = ("folder", "bucket")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "storage_kind" in metafunc.fixturenames:
        metafunc.parametrize("storage_kind", STORAGES, scope="session")


@pytest.fixture(scope="session")
def bucket_url() -> Iterator[str]:
    """The URL of a bucket on a server with the S3 API."""
    with bucket_server() as url:
        yield url


@contextmanager
def bucket_server(*arguments: str) -> Iterator[str]:
    """Run a server with the S3 API; yield the URL of its bucket, without the folder."""
    command = [PYTHON, bucket.__file__, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        port = int(server.stdout.readline())
        yield f"s3://key:secret@{bucket.BUCKET}/{{}}?endpoint=http://127.0.0.1:{port}"
        server.stdin.close()


@pytest.fixture(scope="session")
def storage_url(
    storage_kind: str, engine_kind: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """The URL of a storage for the hub with this engine: it belongs to one database."""
    if storage_kind == "folder":
        return f"file://{tmp_path_factory.mktemp('storage')}"
    url: str = request.getfixturevalue("bucket_url")
    return url.format(unique(engine_kind))  # a hub that is made again in this session has another database


@pytest.fixture(scope="session")
async def hub(
    engine_kind: str,
    storage_kind: str,
    storage_url: str,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Hub]:
    folder = tmp_path_factory.mktemp(f"files-{storage_kind}")
    fetching = own_files(folder, free_port())
    async with (
        fitting_database(engine_kind, request, folder) as database,
        running_hub(database, folder / "hub", media_url=storage_url, media_max_bytes=2_000_000, **fetching) as hub,
    ):
        yield hub


@pytest.fixture(scope="session")
async def user(hub: Hub) -> Client:
    return await hub.as_user()


@pytest.fixture(scope="session")
async def other(hub: Hub) -> Client:
    return await hub.as_user()


@pytest.fixture(scope="session")
async def albums(hub: Hub) -> str:
    """A store with fields of files: `cover` and `photos` are private, `poster` and `flyers` are public."""
    return await hub.define(
        fields=[
            {"id": "code", "type": "Text", "unique": True},
            {"id": "cover", "type": "Image"},
            {"id": "photos", "type": "Image", "many": True, "max_items": 3},
            {"id": "poster", "type": "Image", "public": True},
            {"id": "paper", "type": "File", "types": ["application/pdf", "text/*"], "max_bytes": 100_000},
            {"id": "flyers", "type": "File", "many": True, "public": True},
            {"id": "secret", "type": "File", "hidden": True},
        ]
    )
