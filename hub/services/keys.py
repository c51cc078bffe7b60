"""API keys: their secrets, and what goes with the creation of one, whoever asks for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

from auth.groups import KnownGroups, chain_of
from auth.keys import new_secret, prefix_of
from auth.secrets import digest
from hub.services import expectations as expect
from hub.services.holders import check_room
from hub.services.user_numbers import number_users
from stores.protocol import Engine, Write
from stores.query import Equal, Query
from stores.records import Entity

STORE: Final = "keys"


class Prepare(Protocol):
    """Prepares what the API of a kind needs, such as its stores. Called before the first key of the kind is created,
    and perhaps again, or by several processes at once. Only with `adopts` it takes stores that are there already, which
    changes who may read them. Raises Conflict if what is there is in the way: then no key is created."""

    async def __call__(self, kind: str, *, adopts: bool) -> None: ...


async def nothing_to_prepare(kind: str, *, adopts: bool) -> None:
    """The preparation of a kind that needs none."""


@dataclass(frozen=True, slots=True)
class NewKey:
    """The entity of a new key, and its secret. The secret is not stored, so this is the only copy."""

    entity: Entity = field(repr=False)
    secret: str = field(repr=False)


class KeyIssuer:
    """Makes keys. `most`: keys that one user may have."""

    def __init__(self, engine: Engine, most: int, prepare: Prepare = nothing_to_prepare) -> None:
        self._engine = engine
        self.most = most
        self._prepare = prepare

    async def new_key(self, user: Entity, entity: Entity, known: KnownGroups | None = None) -> NewKey:
        """Return a key of the user, who gets a number if there is none yet. `entity` is complete except for the fields
        that are derived here; `known` are groups that have been read."""
        if user.get("number") is None:  # another program has made the user since the start
            await number_users(self._engine)
        secret = new_secret(entity["scope"])
        derived = {
            "user": user["_id"],
            "owner": user["_id"],
            "group": user.get("group"),
            "branch": list(await chain_of(self._engine, user.get("group"), known)),
            "prefix": prefix_of(secret),
            "digest": digest(secret),
            "last_used": None,
        }
        return NewKey(entity | derived, secret)

    def expected(self, user: str) -> list[Write]:
        """Return the condition for the commit that creates keys of the user. It must follow the creations."""
        return [expect.credentials_are_few(STORE, user, self.most)]

    async def check_room(self, user: str, more: int = 1) -> None:
        """Raise InvalidEntity if the user cannot have so many more keys."""
        await check_room(self._engine, STORE, user, more, self.most)

    async def prepare(self, kinds: Iterable[str], *, adopts: bool) -> None:
        """Prepare what the APIs of the kinds need, if there is no key of the kind yet. With `adopts`, for an
        administrator, it may take stores that are there already. Raises Conflict."""
        for kind in kinds:
            if not await self._engine.entities(STORE, Query(Equal(("kind",), kind), limit=1)):
                await self._prepare(kind, adopts=adopts)
