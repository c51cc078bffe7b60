"""Orders commits of values that were checked against a definition with changes of that definition.

MongoDB changes one entity without a transaction, so the server cannot check the definition with it. Within this process
a change of a definition waits for the commits in progress that rely on it, and later ones wait for the change. So do
attempts of commits in a store to which the changed definition comes to refer: a deletion must know what refers to its
entities.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from functools import partial
from typing import Annotated, Final

from stores.bounds import Limit
from stores.errors import DefinitionChanged, Unavailable
from stores.mongo.room import longest_wait
from stores.protocol import Definitions, Insert, Write, Written
from stores.schema import StoreDefinition
from stores.superseded import SupersededDefinitions, changed_definitions, each_of, targets_of

LONGEST_STOP: Final[Annotated[float, Limit("change of a definition on MongoDB", "seconds without writes", "503")]] = 5.0
"""Seconds that a change of a definition waits for commits in progress, in all: later writes to the stores wait with
it."""

Note = Callable[[Sequence[Written]], None]


class _Change:
    """A change of a key: `free` is set when no commit in progress relies on it, `ended` after the change."""

    def __init__(self) -> None:
        self.free = asyncio.Event()
        self.ended = asyncio.Event()


class _Keys:
    """Keys on which commits rely, and which others change one at a time."""

    def __init__(self) -> None:
        self.relying: Counter[str] = Counter()
        self.changes: dict[str, _Change] = {}

    def are_free(self, keys: Iterable[str]) -> bool:
        """Return whether nobody changes the keys or relies on them."""
        return not any(key in self.changes or key in self.relying for key in keys)

    def are_changed(self, keys: Iterable[str]) -> bool:
        """Return whether one of the keys is changed now."""
        return bool(self.changes) and any(key in self.changes for key in keys)

    async def passed(self, keys: Sequence[str]) -> None:
        """Wait while one of the keys is changed. Raises TooManySlowWrites."""
        if not self.are_changed(keys):
            return
        async with longest_wait():
            while change := next((self.changes[key] for key in keys if key in self.changes), None):
                await change.ended.wait()

    def rely(self, keys: Sequence[str]) -> None:
        for key in keys:
            self.relying[key] += 1

    def leave(self, keys: Sequence[str]) -> None:
        """End what `rely` began."""
        for key in keys:
            self.relying[key] -= 1
            if not self.relying[key]:
                del self.relying[key]
                if (change := self.changes.get(key)) is not None:
                    change.free.set()

    def relied_on(self, keys: Sequence[str]) -> AbstractContextManager[None]:
        return _Reliance(self, keys)

    @contextmanager
    def changed(self, keys: Sequence[str]) -> Iterator[list[_Change]]:
        """Context for a change of the keys, none of which is changed now. Yields the changes of those on which commits
        in progress rely."""
        made = {key: _Change() for key in keys}
        self.changes |= made
        try:
            yield [change for key, change in made.items() if key in self.relying]
        finally:
            for key, change in made.items():
                del self.changes[key]
                change.ended.set()


class _Reliance:
    """Context for a commit that relies on keys. Every commit enters some; contexts made of generators cost three times
    as much."""

    def __init__(self, all_keys: _Keys, keys: Sequence[str]) -> None:
        self._all = all_keys
        self._keys = keys

    def __enter__(self) -> None:
        self._all.rely(self._keys)

    def __exit__(self, *_: object) -> None:
        self._all.leave(self._keys)


class _RelyingCommit:
    """The context of `DefinitionGate.relying_on`. `enter` waits until the keys may be relied on."""

    def __init__(self, all_keys: _Keys, keys: Sequence[str], enter: Callable[[], Awaitable[None]]) -> None:
        self._all = all_keys
        self._keys = keys
        self._enter = enter

    async def __aenter__(self) -> None:
        await self._enter()
        self._all.rely(self._keys)

    async def __aexit__(self, *_: object) -> None:
        self._all.leave(self._keys)


async def _all_free(changes: Sequence[_Change]) -> None:
    """Wait until no commit in progress relies on the keys of these changes. Raises Unavailable."""
    try:
        async with asyncio.timeout(LONGEST_STOP):
            for change in changes:
                await change.free.wait()
    except TimeoutError:
        text = "writes in progress, for which the change of the definition waits, have not ended"
        raise Unavailable(text).at("LONGEST_STOP") from None


class DefinitionGate:
    """One per database. Definitions are known by their ids, and the stores to which they refer by their names."""

    def __init__(self) -> None:
        self._superseded = SupersededDefinitions()
        self._definitions = _Keys()
        self._targets = _Keys()

    def relying_on(self, definition: Definitions, writes: Sequence[Write] = ()) -> AbstractAsyncContextManager[None]:
        """Context for a commit of values that were checked against a definition, or several. Raises DefinitionChanged,
        and TooManySlowWrites."""
        definitions = each_of(definition)
        keys, stores = [each.id for each in definitions], _referable(definitions, writes)

        async def enter() -> None:
            await self._passed(keys, stores)
            self._superseded.check(definition)

        return _RelyingCommit(self._definitions, keys, enter)

    def attempt(self, definition: Definitions, writes: Sequence[Write]) -> AbstractContextManager[None]:
        """Context for one attempt of a commit that relies on a definition: meanwhile no other definition comes to refer
        to its store. The commit may have waited since it passed `relying_on`. Raises DefinitionChanged."""
        self._superseded.check(definition)
        stores = _referable(each_of(definition), writes)
        for store in stores:
            if self._targets.are_changed((store,)):
                raise DefinitionChanged(store)  # it waits in `relying_on` again, where it holds no turn
        return self._targets.relied_on(stores)

    def is_free_for(self, writes: Sequence[Write]) -> bool:
        """Return whether `changing` would not wait."""
        return self._definitions.are_free(changed_definitions(writes)) and self._targets.are_free(targets_of(writes))

    async def freed(self, writes: Sequence[Write]) -> None:
        """Wait until `is_free_for` is true. Raises the errors of `changing`."""
        async with self.changing(writes):
            pass  # those who wait for this change go on later than the caller

    @asynccontextmanager
    async def changing(self, writes: Sequence[Write]) -> AsyncIterator[Note]:
        """Context for a commit that may change definitions. It yields the function to call with the outcome. Raises
        Unavailable when commits that rely on a definition do not end in time, and TooManySlowWrites."""
        ids, stores = changed_definitions(writes), targets_of(writes)
        await self._passed(ids, stores)
        with self._definitions.changed(ids) as definitions, self._targets.changed(stores) as targets:
            await _all_free([*definitions, *targets])
            yield partial(self._superseded.note, writes)

    async def _passed(self, ids: Sequence[str], stores: Sequence[str]) -> None:
        """Wait while one of the definitions, or of the targets, is changed. All at once: a change of one of them may
        wait for those who rely on it, and hold another one. Raises TooManySlowWrites."""
        while self._definitions.are_changed(ids) or self._targets.are_changed(stores):
            await self._definitions.passed(ids)
            await self._targets.passed(stores)


def _referable(definitions: Sequence[StoreDefinition], writes: Sequence[Write]) -> list[str]:
    """Return the stores of the definitions. If the writes only insert entities, there are none: nothing refers to
    these yet."""
    return [] if writes and all(isinstance(write, Insert) for write in writes) else [each.name for each in definitions]
