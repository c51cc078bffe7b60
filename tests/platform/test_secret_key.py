"""The secret key: its sources, the keys derived from it, and that all processes of a hub share it."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import apsw
import pytest
from pymongo import AsyncMongoClient

from auth.secret_key import BadKey, BadSeal, SecretKey
from hub.key_file import KeyAppeared, check_key, keep_key, load_key
from hub.settings import Settings
from tests.support.engines import Database, opened
from tests.support.hub import HubProcess, environment, launch, running_hub
from tests.support.program import HUB

KEY = SecretKey(bytes(range(32)))
OTHER = SecretKey(bytes(32))


def test_a_key_is_read_from_hexadecimal_digits_and_from_base64url() -> None:
    """Both encodings give the same key."""
    assert SecretKey.parse(f" {KEY.as_text()}\n").check_value == KEY.check_value
    assert SecretKey.parse("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8").check_value == KEY.check_value


@pytest.mark.parametrize("text", ["", "short", "00" * 31, "00" * 33, "xy" * 32, "ä" * 43, "A" * 42])
def test_a_text_that_is_no_key_is_refused(text: str) -> None:
    """The message describes the format of a key."""
    with pytest.raises(BadKey, match="32 bytes"):
        SecretKey.parse(text)


def test_each_purpose_has_a_key_of_its_own() -> None:
    """Digests and seals of one purpose are not valid for another purpose or key."""
    assert KEY.derive("a") != KEY.derive("b") != OTHER.derive("b")
    assert KEY.digest("a", b"x") != KEY.digest("b", b"x") != OTHER.digest("b", b"x")
    sealed = KEY.sealer("a").seal(b"secret")
    assert KEY.sealer("a").unseal(sealed) == b"secret"
    for stranger in (KEY.sealer("b"), OTHER.sealer("a")):
        with pytest.raises(BadSeal):
            stranger.unseal(sealed)


def test_a_seal_is_bound_to_its_context_and_to_every_byte() -> None:
    """A value that was moved to another entity, truncated or changed is refused."""
    sealer = KEY.sealer("totp")
    sealed = sealer.seal(b"secret", "user-1")
    assert sealer.unseal(sealed, "user-1") == b"secret"
    assert sealer.seal(b"secret", "user-1") != sealed
    changed = ("B" if sealed[0] == "A" else "A") + sealed[1:]
    for text, context in ((sealed, "user-2"), (sealed[:-4], "user-1"), (changed, "user-1"), ("", "user-1")):
        with pytest.raises(BadSeal):
            sealer.unseal(text, context)


def test_a_cover_is_the_same_for_the_same_data() -> None:
    """Callers can compare covered values, but not change them."""
    cover = KEY.cover("positions")
    covered = cover.seal(b"place 17")
    assert cover.seal(b"place 17") == covered
    assert cover.unseal(covered) == b"place 17"
    for text in ("", "~", covered[:-1], covered + "AAAA", OTHER.cover("positions").seal(b"place 17")):
        with pytest.raises(BadSeal):
            cover.unseal(text)


async def test_a_first_start_makes_the_key_for_its_owner_only(database: Database, tmp_path: Path) -> None:
    """The next start uses the same one."""
    for _ in range(2):
        async with running_hub(database, tmp_path, secret_key=""):
            path = tmp_path / "secret.key"
            assert path.stat().st_mode & 0o777 == 0o600
    assert len(path.read_text().strip()) == 64


async def test_a_start_that_does_not_reach_its_database_makes_no_key(database: Database, tmp_path: Path) -> None:
    """A key that never sealed anything would be refused later as another key than the database's."""
    nowhere = tmp_path / "nowhere.db"
    nowhere.write_text("not a database " * 100)
    urls = {"sqlite": f"sqlite:///{nowhere}", "mongodb": "mongodb://127.0.0.1:1/hub?serverSelectionTimeoutMS=100"}
    code, _ = await ended(database, tmp_path, secret_key="", database_url=urls[database.kind])
    assert code == 1
    assert not (tmp_path / "secret.key").exists()
    async with running_hub(database, tmp_path / "first"):
        pass
    _, log = await ended(database, tmp_path, secret_key="")
    assert "The secret key of this database is missing" in log


async def test_a_start_takes_the_key_that_another_process_has_just_made(database: Database, tmp_path: Path) -> None:
    """A process that began with a new key of its own does not use it, and keeps the other's file."""
    settings = Settings(data_dir=tmp_path)
    mine, other = load_key(settings), load_key(settings)
    keep_key(other)
    async with opened(database.engine()) as engine:
        with pytest.raises(KeyAppeared):
            await check_key(engine, mine)
        found = load_key(settings)
        assert found.key.as_text() == other.key.as_text()
        await check_key(engine, found)


@pytest.mark.engine("mongodb")
async def test_two_processes_may_start_at_once_on_a_new_data_folder(database: Database, tmp_path: Path) -> None:
    """Both run, with one key."""
    begun = [asyncio.to_thread(HubProcess, database, tmp_path, {"secret_key": ""}) for _ in range(2)]
    for process in await asyncio.gather(*begun):
        await asyncio.to_thread(process.stop)


async def test_a_hub_with_another_key_refuses_to_start(database: Database, tmp_path: Path) -> None:
    """With a generated or a given key it fails with advice, and leaves no generated key behind."""
    async with running_hub(database, tmp_path / "first"):
        pass
    for number, key in enumerate(("", "ab" * 32)):
        folder = tmp_path / f"next{number}"
        code, log = await ended(database, folder, secret_key=key)
        assert code == 1
        assert "another secret key" in log
        assert "HUB_SECRET_KEY" in log
        assert not (folder / "secret.key").exists()
    async with running_hub(database, tmp_path / "last"):
        pass


async def test_a_lost_key_can_be_replaced(database: Database, tmp_path: Path) -> None:
    """`hub secret accept` accepts the current key."""
    async with running_hub(database, tmp_path):
        pass
    process = await asyncio.create_subprocess_exec(
        *HUB, "secret", "accept", "--yes", env=environment(database, tmp_path, {"secret_key": "ab" * 32})
    )
    assert await process.wait() == 0
    async with running_hub(database, tmp_path, secret_key="ab" * 32):
        pass


async def test_a_key_that_is_none_stops_the_start(database: Database, tmp_path: Path) -> None:
    """The message names its source and does not quote it."""
    code, log = await ended(database, tmp_path, secret_key="no-key-at-all")
    assert code == 1
    assert "HUB_SECRET_KEY" in log
    assert "no-key-at-all" not in log
    (tmp_path / "secret.key").write_text("spoilt")
    code, log = await ended(database, tmp_path, secret_key="")
    assert code == 1
    assert "secret.key" in log


async def ended(database: Database, folder: Path, **settings: object) -> tuple[int, str]:
    """Start a hub that must fail; return its exit code and its log."""
    process = launch(database, folder, settings)
    await asyncio.to_thread(process.communicate)
    return process.returncode, (folder / "hub.log").read_text()


async def test_no_digest_of_a_password_can_be_guessed_from(database: Database, tmp_path: Path) -> None:
    """The stored digest of a request with an `Idempotency-Key` is keyed with the secret key."""
    body = b'{"login":"ada","password":"correct horse battery 1"}'
    request = b"\0".join((b"POST", b"/api/v1/users", b"", body))
    async with running_hub(database, tmp_path) as hub:
        for _ in range(2):
            answer = await hub.admin.send("POST", "/users", body, idempotency_key="once")
            assert answer.status_code == 200, answer.text
        answer = await hub.admin.send("POST", "/users", body.replace(b"1", b"2"), idempotency_key="once")
        assert answer.status_code == 409
    kept = await fingerprints(database)
    assert len(kept) == 1
    assert hashlib.sha256(request).hexdigest() not in kept


async def fingerprints(database: Database) -> list[str]:
    """Return the digests of requests in the database."""
    if database.kind == "sqlite":
        connection = apsw.Connection(database.location)
        return [row[0] for row in connection.execute("SELECT fingerprint FROM idempotency")]
    async with AsyncMongoClient[dict[str, str]](database.location) as client:
        return [d["fingerprint"] async for d in client.get_default_database()["_idempotency"].find()]
