"""Where the secret key comes from: the setting, or a file in the data folder that is made at the first start."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from auth.secret_key import BadKey, SecretKey
from hub.settings import Settings
from stores.errors import CannotOpen
from stores.protocol import Engine

FILE_NAME: Final = "secret.key"
CHECK: Final = "secret_key_check"
"""The name under which a database keeps the check value of its hub's key."""

OTHER_KEY: Final = (
    "This database belongs to a hub with another secret key. Every process of a hub needs the same one: set "
    "HUB_SECRET_KEY to the content of the first process's {name}, or copy that file to {path}. If the key is lost, "
    "`hub secret accept` takes this one; what was sealed with the lost key cannot be read any more."
)


@dataclass(frozen=True, slots=True)
class KeyInUse:
    """`made`: the file at `path` was made by this start."""

    key: SecretKey
    path: Path
    made: bool = False


def load_key(settings: Settings) -> KeyInUse:
    """The key of the setting, of the file, or a new one, which is kept in the file. Raises CannotOpen."""
    path = settings.data_dir / FILE_NAME
    given = settings.secret_key.get_secret_value()
    try:
        made = not given and _make(path)
        return KeyInUse(SecretKey.parse(given or path.read_text()), path, made)
    except BadKey as error:
        raise CannotOpen(f"{'HUB_SECRET_KEY' if given else path}: {error}") from error
    except OSError as error:
        raise CannotOpen(f"cannot read or make {path}: {error.strerror}") from error


async def check_key(engine: Engine, used: KeyInUse) -> None:
    """Raise CannotOpen unless this is the key of the database, which has none before its first start."""
    if await engine.constant(CHECK, used.key.check_value) == used.key.check_value:
        return
    if used.made:
        used.path.unlink(missing_ok=True)  # the next start must not take it for the hub's
    raise CannotOpen(OTHER_KEY.format(name=FILE_NAME, path=used.path))


async def accept_key(engine: Engine, used: KeyInUse) -> None:
    """Make this the key of the database."""
    await engine.constant(CHECK, used.key.check_value, replace=True)


def _make(path: Path) -> bool:
    """Make the file unless it is there, whole from the first moment that it can be seen."""
    if path.exists():
        return False
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    scratch = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(SecretKey.generate().as_text() + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(scratch, path)
    except FileExistsError:
        return False  # another process was faster
    finally:
        scratch.unlink(missing_ok=True)
    return True
