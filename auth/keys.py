"""API keys: what a stored key allows, and the text of its secret.

A key opens the API of its kind, as one user, and nothing else. Its scope is that of the stored entity, not that of the
secret's prefix, which an administrator's change of the scope leaves as it is.
"""

from __future__ import annotations

import re
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from auth.principal import Principal
from auth.scopes import ALL, Scopes
from stores.records import Entity

KeyScope = Literal["R", "RW"]

LISTINGS: Final = "listings"
"""The kind of the keys that open the listings API."""

RANDOM: Final = 32
"""Random letters and digits of a secret: 190 bits."""

SHOWN: Final = 6
"""Of these, those that are stored in clear text, so that the owner of a key can recognize it."""

_ALPHABET: Final = string.ascii_letters + string.digits
_SECRET: Final = re.compile(rf"RW?_[A-Za-z0-9]{{{RANDOM}}}")

_READING: Final = Scopes(frozenset({("GET", "*")}))
SCOPES: Final[Mapping[str, Scopes]] = {"R": _READING, "RW": ALL}
"""What a key allows. `*` covers no system stores, since the principal of a key is no administrator."""


@dataclass(frozen=True, slots=True)
class Key:
    """A stored key. `origins`: the hostnames, in lower case, whose pages may use it; empty for all. `expires` is Unix
    ms."""

    id: str
    name: str
    kind: str
    scope: KeyScope
    origins: frozenset[str]
    expires: int


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """A key and the principal that acts with it. `number` is that of the user; None for a user that another program has
    made, until the next start of a hub."""

    principal: Principal
    key: Key
    number: int | None


def new_secret(scope: str) -> str:
    """Return a new secret: the scope, `_`, and random letters and digits."""
    return f"{scope}_{''.join(secrets.choice(_ALPHABET) for _ in range(RANDOM))}"


def prefix_of(secret: str) -> str:
    """Return the beginning of a secret that is stored in clear text, such as ``RW_a1b2c3``."""
    return secret[: -RANDOM + SHOWN]


def is_secret(text: str) -> bool:
    """Return whether a text has the form of a key's secret."""
    return _SECRET.fullmatch(text) is not None


def scope_of(stored: Entity) -> KeyScope:
    """Return the scope of a stored key. What another program may have stored instead of one allows reading only."""
    return "RW" if stored.get("scope") == "RW" else "R"


def key_of(stored: Entity, expires: int) -> Key:
    """Return the key in an entity of the store `keys`."""
    origins = stored.get("allowed_origins") or []
    listed = origins if isinstance(origins, list) else [origins]  # another program may have stored one text
    return Key(
        id=stored["_id"],
        name=str(stored.get("name") or ""),
        kind=str(stored.get("kind") or ""),
        scope=scope_of(stored),
        origins=frozenset(str(each).lower() for each in listed),
        expires=expires,
    )
