"""Finds the secret key: the setting, or a file in the data folder that the first start creates, once it has reached the
database."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from auth.secret_key import BadKey, SecretKey
from hub.services.second_factors import STORE, is_readable
from hub.settings import Settings
from stores.errors import CannotOpen, NotFound
from stores.protocol import Engine
from stores.query import Query

FILE_NAME: Final = "secret.key"
CHECK: Final = "secret_key_check"
"""The name under which a database stores the check value of its hub's key."""

SAMPLE: Final = 100
"""Largest number of second factors that are read to verify a key."""

_LOST: Final = (
    "What depends on the lost key is lost with it: one-time codes and recovery codes, unused links that reset a "
    "password, the answers to requests repeated with their Idempotency-Key and, on MongoDB, positions of the feed."
)

OTHER_KEY: Final = (
    "This database belongs to a hub with another secret key. Every process of a hub needs the same one: set "
    "HUB_SECRET_KEY to the content of the first process's {name}, or copy that file to {path}. If the key is lost, "
    f"`hub secret accept` takes this one. {_LOST}"
)

MISSING_KEY: Final = (
    "The secret key of this database is missing: HUB_SECRET_KEY is not set, and there is no file {path}. A new one "
    "would be another secret key. Set HUB_SECRET_KEY to the key, or restore that file, from a backup or from another "
    f"process of this hub. If the key is lost, `hub secret accept` makes a new one. {_LOST}"
)


class KeyAppeared(CannotOpen):
    """Another process created the key file while this one started with a new key of its own: the start must be
    repeated."""


@dataclass(frozen=True, slots=True)
class KeyInUse:
    """`made`: the key is new, and `keep_key` writes it to the file at `path`."""

    key: SecretKey
    path: Path
    made: bool = False


@dataclass(frozen=True, slots=True)
class Traces:
    """The evidence of its key in a database: the check value, or else entities of `second_factors`, whose secrets are
    sealed. A partially restored database may lack the check value."""

    check: str | None
    factors: Sequence[Mapping[str, Any]] = ()

    @property
    def are_there(self) -> bool:
        return self.check is not None or bool(self.factors)

    def are_of(self, key: SecretKey) -> bool:
        """Return whether this is the database's key. True as well if the database has no key yet."""
        if self.check is not None:
            return self.check == key.check_value
        return not self.factors or any(is_readable(key, factor) for factor in self.factors)


def find_key(settings: Settings) -> KeyInUse | None:
    """Return the key of the setting or of the file, or None. Raises CannotOpen for an invalid key."""
    path = key_path(settings)
    given = settings.secret_key.get_secret_value()
    try:
        return KeyInUse(SecretKey.parse(given or path.read_text(errors="replace")), path)
    except FileNotFoundError:
        return None
    except BadKey as error:
        raise CannotOpen(f"{'HUB_SECRET_KEY' if given else path}: {error}") from error
    except OSError as error:
        raise CannotOpen(f"cannot read {path}: {error.strerror}") from error


def load_key(settings: Settings) -> KeyInUse:
    """Return the key of the setting or of the file, or a new key, which is in no file yet. Raises CannotOpen."""
    return find_key(settings) or KeyInUse(SecretKey.generate(), key_path(settings), made=True)


def keep_key(used: KeyInUse) -> None:
    """Write a new key to its file. Raises KeyAppeared if the file contains another key, and CannotOpen."""
    try:
        _make(used.path, used.key)
        kept = used.path.read_text(errors="replace").strip()
    except OSError as error:
        raise CannotOpen(f"cannot make {used.path}: {error.strerror}") from error
    if kept != used.key.as_text():
        raise KeyAppeared(f"another process has made {used.path}: start again")


def key_path(settings: Settings) -> Path:
    """Return the path of the key file, whether or not it exists."""
    return settings.data_dir.absolute() / FILE_NAME


async def check_key(engine: Engine, used: KeyInUse) -> None:
    """Raise CannotOpen unless this is the database's key. A database without a key, before its first start, takes this
    one. A new key gets its file here, since a start that does not reach its database must not leave one behind."""
    check = used.key.check_value
    accepted = (await _traces(engine)).are_of(used.key)
    is_kept = used.made and (accepted or used.path.exists())
    if is_kept:
        keep_key(used)
    if accepted and await engine.stored_constant(CHECK, check) == check:
        return
    if is_kept:  # otherwise a file there is of another process
        used.path.unlink(missing_ok=True)  # the next start must not use it
    raise CannotOpen(refusal(used.path, missing=used.made))


def refusal(path: Path, *, missing: bool) -> str:
    """Return why a hub does not start with a wrong or missing key, and what to do."""
    return (MISSING_KEY if missing else OTHER_KEY).format(name=FILE_NAME, path=path)


async def accept_key(engine: Engine, used: KeyInUse) -> bool:
    """Make this the database's key. Return False if it already is."""
    if await engine.read_constant(CHECK) == used.key.check_value:
        return False
    await engine.stored_constant(CHECK, used.key.check_value, replace=True)
    return True


async def _traces(engine: Engine) -> Traces:
    check = await engine.read_constant(CHECK)
    if check is not None:
        return Traces(check)
    try:
        return Traces(None, await engine.entities(STORE, Query(limit=SAMPLE)))
    except NotFound:  # before the first start
        return Traces(None)


def _make(path: Path, key: SecretKey) -> None:
    """Create the key file atomically, unless it exists."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    scratch = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(key.as_text() + "\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):  # another process was faster
            os.link(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
