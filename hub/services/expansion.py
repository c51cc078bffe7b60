"""Expansion: references in entities become the entities that they refer to, as the reader sees these.

Each hop of the plan (`hub.services.expansion_plan`) is one query for the whole page. What it leads to is put in as JSON
text: a text that stands in many places is in memory once until the answer is written, and the bytes of the answer are
counted before. A small page is parsed once. Of a larger one, only the texts are kept between its two uses, to find what
it refers to and to write it: parsed entities take several times as much memory. The usual page is short: its answer is
written by one call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from dataclasses import dataclass
from itertools import chain
from types import TracebackType
from typing import Annotated, Any, Final, TypeVar

import orjson

from auth.positions import bind
from auth.principal import Principal
from hub.services.expansion_plan import Expand, Hop, KeptPlans, Level, refused
from hub.services.listing_texts import pieces_of, texts_in
from hub.services.registry import StoreRegistry
from stores.bounds import Limit
from stores.errors import InvalidQuery, NotFound, ReadTooLarge
from stores.long_lists import LongLists
from stores.newest import Newest, Texts
from stores.projection import compile_projection
from stores.protocol import Engine, Listing
from stores.query import Query
from stores.records import Entity, Json, is_id
from stores.relation import Value
from stores.threads import in_thread
from stores.turns import FairSemaphore

T = TypeVar("T")
PageWriter = Callable[..., T]

MOST_EXPANDED: Final[Annotated[int, Limit("request with `expand`", "entities", "`Link`")]] = 1_000
MOST_TARGETS: Final[Annotated[int, Limit("page and path", "values to look up", "400")]] = 10_000
MOST_EXPANDED_BYTES: Final[Annotated[int, Limit("request with `expand`", "bytes of the answer", "400")]] = 16_777_216
MOST_LARGE_EXPANSIONS: Final[Annotated[int, Limit("process", "large expansions at a time", "waits")]] = 8
MOST_LARGE_EXPANSIONS_EACH: Final[Annotated[int, Limit("user", "large expansions at a time", "waits")]] = 4

LARGE: Final = 1_048_576
"""Bytes of entities that have been read for an expansion, from which on it is a large one; and bytes of a list up to
which it is written by one call."""

SMALL: Final = 131_072
"""Bytes of entities up to which they stay parsed between two uses."""
ON_LOOP: Final = 393_216
"""Bytes of entities that an expansion looks through on the event loop, in all; what is more, in a thread."""
_COPIED: Final = 3
"""The number of bits by which the bytes of texts that are put into others are shifted: they are only copied."""
_MANY: Final = 3
"""The same, to the left, for entities that may hold many references each: lists of short ones take longest."""

_OUT_OF_SIGHT_BYTES: Final = 11
"""Bytes around the name and the value in ``{"_id":"…"}``, approximately."""

_SINGLE: Final = frozenset((str, int, type(None)))
"""The types of a field that holds one reference or none. Not bool, which is a subclass of int: it is no reference."""


@dataclass(frozen=True, slots=True)
class ExpandedPage:
    """A list with what its entities refer to. `body`: the JSON array, or the texts of the entities if it may be long.
    `position` and `next`: see `Listing`."""

    body: bytes | list[bytes]
    position: str
    next: tuple[Json, ...] | None


class _Page:
    """The entities of one level: parsed if they are small, so that writing changes them, and as texts otherwise."""

    __slots__ = ("_texts", "entities", "size")

    def __init__(self, size: int, texts: Sequence[bytes], entities: list[Entity] | None = None) -> None:
        self.size = size
        self._texts = texts
        self.entities = entities

    @classmethod
    def of_texts(cls, texts: Sequence[bytes]) -> _Page:
        size = sum(map(len, texts))
        return cls(size, texts, [orjson.loads(text) for text in texts] if size <= SMALL else None)

    def __iter__(self) -> Iterator[Entity]:
        return map(orjson.loads, self._texts) if self.entities is None else iter(self.entities)


@dataclass(slots=True)
class Sought:
    """The values that one hop looks up for a page. `column`: the value of each entity, or None, if the hop is one from
    a plain field in which each has one value or none."""

    values: set[Value]
    column: list[Value | None] | None = None


@dataclass(frozen=True, slots=True)
class _Found:
    """The entities that one hop leads to: their texts by value, all their bytes, and the bytes of the longest."""

    texts: Texts
    size: int = 0
    longest: int = 0

    @classmethod
    def of(cls, texts: Texts) -> _Found:
        sizes = list(map(len, chain.from_iterable(texts.values())))
        return cls(texts, sum(sizes), max(sizes, default=0))


class Expansions:
    """Reads entities and what they refer to."""

    def __init__(self, engine: Engine, registry: StoreRegistry, long_lists: LongLists) -> None:
        self._engine = engine
        self._long_lists = long_lists
        self._large = FairSemaphore(MOST_LARGE_EXPANSIONS, MOST_LARGE_EXPANSIONS_EACH)
        self._plans = KeptPlans(registry)

    async def get(self, principal: Principal, store: str, id: str, expand: Expand) -> tuple[bytes, int]:
        """Return the text and the revision of one entity. Raises NotFound, for an invisible entity as well."""
        plan = self._plans.plan(principal, store, expand)
        found = await self._engine.get(store, id, plan.view.where, plan.read) if is_id(id) else None
        if found is None:
            raise NotFound(f"no {store}/{id}")
        text, rev = found
        async with self._expansion(principal) as expansion:
            await expansion.count(len(text))
            [expanded] = await expansion.expanded_texts([text], plan)
            return expanded, rev

    async def find(self, principal: Principal, store: str, query: Query, expand: Expand) -> ExpandedPage:
        """Return a page of at most MOST_EXPANDED entities."""
        plan = self._plans.plan(principal, store, expand)
        limit = min(query.limit, MOST_EXPANDED)
        query = Query(plan.view.narrowed(query.where), query.sort, query.offset, limit, query.after)
        slot = self._long_lists.slot(principal.user_id)
        async with self._expansion(principal) as expansion:
            try:
                listing = await self._engine.find(store, query, plan.read, slot.enter)
                page = await expansion.page_of(listing)
            finally:
                slot.leave()
            position = bind(listing.position, plan.view.digest)
            return ExpandedPage(await expansion.expanded(page, plan, written_list), position, listing.next)

    def _expansion(self, principal: Principal) -> _Expansion:
        return _Expansion(self._engine, self._large.slot(principal.user_id))


class _Expansion:
    """One expansion, a context manager. What it reads is in memory until the answer is written. So when it gets large,
    it takes a `slot`, of which there are few, before it reads on."""

    def __init__(self, engine: Engine, slot: AbstractAsyncContextManager[None]) -> None:
        self._engine = engine
        self._slot = slot
        self._is_large = False
        self._bytes = 0
        self._on_loop = ON_LOOP

    async def __aenter__(self) -> _Expansion:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_large:
            await self._slot.__aexit__(kind, error, trace)

    async def count(self, size: int) -> None:
        """Count bytes that the answer will have. Raises InvalidQuery when they are too many."""
        self._bytes += size
        if self._bytes > MOST_EXPANDED_BYTES:
            raise too_large()
        if self._bytes > LARGE:
            await self._grow()

    async def _grow(self) -> None:
        if not self._is_large:
            await self._slot.__aenter__()
            self._is_large = True

    async def page_of(self, listing: Listing) -> _Page:
        """Return the entities in a list."""
        body = listing.body
        if isinstance(body, bytes) and len(body) <= SMALL:
            await self.count(len(body))
            return _Page(len(body), (), orjson.loads(body))
        texts: list[bytes] = []
        async with aclosing(pieces_of(listing)) as pieces:
            async for piece in pieces:
                await self.count(len(piece))
                texts += await self._work(len(piece), texts_in, piece)
        return _Page.of_texts(texts)

    async def expanded_texts(self, texts: list[bytes], level: Level) -> list[bytes]:
        """Return the texts of a level's entities with what they refer to in its place."""
        return await self.expanded(_Page.of_texts(texts), level, written) if level.hops else texts

    async def expanded(self, page: _Page, level: Level, write: PageWriter[T]) -> T:
        """Return what `write` makes of a level's entities as they are shown, with what they refer to in its place."""
        hops = level.hops
        weight = page.size if all(hop.plain_field for hop in hops) else page.size << _MANY
        sought = await self._work(weight, values_in, page, hops)
        found = [await self._find(hop, each.values) for hop, each in zip(hops, sought, strict=True)]
        more = sum(each.size for each in found)
        return await self._work(weight + (more >> _COPIED), write, page, level, sought, found)

    async def _work(self, size: int, function: Callable[..., T], *arguments: Any) -> T:
        """Return the result of a function on `size` bytes of entities, called here or in a thread."""
        self._on_loop -= size
        if self._on_loop >= 0:
            return function(*arguments)
        return await in_thread(function, *arguments)

    async def _find(self, hop: Hop, values: set[Value]) -> _Found:
        """Return what a hop leads to, expanded in turn."""
        level = hop.level
        if level is None or not values:
            return _Found({})
        found = _Found.of(await self._read(hop, level, tuple(values)))
        await self.count(found.size)
        if not level.hops:
            return found
        texts = [text for each in found.texts.values() for text in each]
        following = iter(await self.expanded_texts(texts, level))
        whole = _Found.of({value: [next(following) for _ in each] for value, each in found.texts.items()})
        await self.count(whole.size - found.size)
        return whole

    async def _read(self, hop: Hop, level: Level, values: tuple[Value, ...]) -> Texts:
        """Read what a hop leads to. What turns out to be large is read again, in a slot for large expansions."""
        try:
            if not self._is_large:
                with suppress(ReadTooLarge):
                    return await self._newest(hop, level, values, LARGE)
                await self._grow()
            return await self._newest(hop, level, values, MOST_EXPANDED_BYTES)
        except ReadTooLarge:
            raise too_large() from None
        except NotFound:  # the store has just been deleted
            return {}

    async def _newest(self, hop: Hop, level: Level, values: tuple[Value, ...], most_bytes: int) -> Texts:
        wanted = Newest(hop.path, values, hop.each, most_bytes, level.view.where)
        return await self._engine.newest(level.view.store, wanted, level.read)


def values_in(page: _Page, hops: Sequence[Hop]) -> list[Sought]:
    """Return the values that each hop looks up for these entities. Raises InvalidQuery when they are too many."""
    sought = [_column_of(page, hop) or Sought(set()) for hop in hops]
    others = [
        (hop.plain_field, hop, each.values) for hop, each in zip(hops, sought, strict=True) if each.column is None
    ]
    for entity in page if others else ():
        for name, hop, values in others:
            if name and type(value := entity.get(name)) is str:
                values.add(value)
            else:
                values |= hop.values(entity)
            _check_number(hop, values)
    return sought


def _column_of(page: _Page, hop: Hop) -> Sought | None:
    """Return the values of a hop from a plain field of parsed entities; None if one of them has several, as data from
    before the field was defined may, or if the hop is another one."""
    name = hop.plain_field
    if page.entities is None or hop.is_reverse or not name:
        return None
    column = [entity.get(name) for entity in page.entities]
    if not _SINGLE.issuperset(map(type, column)):
        return None
    values: set[Value] = {value for value in column if value is not None}
    _check_number(hop, values)
    return Sought(values, column)


def _check_number(hop: Hop, values: set[Value]) -> None:
    if len(values) > MOST_TARGETS:
        what = f"{hop.text} leads to more than {MOST_TARGETS} entities (MOST_TARGETS): ask for fewer with limit"
        raise refused(what).at("MOST_TARGETS")


def written_list(page: _Page, level: Level, sought: Sequence[Sought], found: Sequence[_Found]) -> bytes | list[bytes]:
    """Return the JSON array of entities with what `found` has for each hop, or their texts if it may be long. Raises
    InvalidQuery when they become too large."""
    if _is_short(page, level, sought, found):
        return orjson.dumps(_filled(page, level, sought, found))
    return _written(page, level, found)


def written(page: _Page, level: Level, sought: Sequence[Sought], found: Sequence[_Found]) -> list[bytes]:
    """Return the JSON texts of entities with what `found` has for each hop. Raises InvalidQuery when they become too
    large."""
    if _is_short(page, level, sought, found):
        return [orjson.dumps(entity) for entity in _filled(page, level, sought, found)]
    return _written(page, level, found)


def _is_short(page: _Page, level: Level, sought: Sequence[Sought], found: Sequence[_Found]) -> bool:
    """Return whether the entities are parsed and refer from plain fields only, and have at most LARGE bytes even if
    each refers to the longest target. Then nothing needs to be counted."""
    size = page.size
    for hop, values, answer in zip(level.hops, sought, found, strict=True):
        if values.column is None:
            return False
        size += len(values.column) * (1 + max(answer.longest, _OUT_OF_SIGHT_BYTES + len(hop.relation.by)))
    return page.entities is not None and size <= LARGE


def _filled(page: _Page, level: Level, sought: Sequence[Sought], found: Sequence[_Found]) -> list[Entity]:
    """Return the entities of a short page with their targets in the place of references."""
    entities = page.entities
    assert entities is not None
    for hop, values, answer in zip(level.hops, sought, found, strict=True):
        name, by = hop.plain_field, hop.relation.by
        targets = {value: orjson.Fragment(texts[0]) for value, texts in answer.texts.items()}
        assert values.column is not None
        for entity, value in zip(entities, values.column, strict=True):
            if value is not None:
                entity[name] = targets.get(value) or {by: value}
    return entities


def _written(page: _Page, level: Level, found: Sequence[_Found]) -> list[bytes]:
    """Return the texts of entities of any page."""
    project = compile_projection(level.shown) if level.read != level.shown else None
    room = _Room(page.size)
    answers = [(hop, each.texts) for hop, each in zip(level.hops, found, strict=True)]
    reverse = [(hop, hop.text, answer) for hop, answer in answers if hop.is_reverse]
    forward = [(hop.relation, _stand_in(hop, answer, room)) for hop, answer in answers if not hop.is_reverse]
    expanded: list[bytes] = []
    for entity in page:
        # Read before the projection takes them away, and before the replacements take their place.
        own = [hop.own_value(entity) for hop, _, _ in reverse]
        shown = entity if project is None else project(entity)
        for relation, stand_in in forward:
            relation.replace(shown, stand_in)
        for (_, text, answer), value in zip(reverse, own, strict=True):
            shown[text] = [room.fragment(each) for each in answer.get(value, ())] if value is not None else []
        room.check()
        expanded.append(orjson.dumps(shown))
    return expanded


def _stand_in(hop: Hop, answer: Texts, room: _Room) -> Callable[[Value], Any]:
    by = hop.relation.by

    def stand_in(value: Value) -> Any:
        texts = answer.get(value)
        if texts:
            return room.fragment(texts[0])
        room.taken += _OUT_OF_SIGHT_BYTES + len(by)
        return {by: value}

    return stand_in


class _Room:
    """The bytes that the answer may have. `taken`: those that it will have."""

    __slots__ = ("taken",)

    def __init__(self, taken: int) -> None:
        self.taken = taken

    def fragment(self, text: bytes) -> orjson.Fragment:
        """Return a text as a part of the answer."""
        self.taken += len(text) + 1
        return orjson.Fragment(text)

    def check(self) -> None:
        """Raises InvalidQuery when there is no room. Call it before parts are put together."""
        if self.taken > MOST_EXPANDED_BYTES:
            raise too_large()


def too_large() -> InvalidQuery:
    text = (
        f"with all that is expanded the answer has more than {MOST_EXPANDED_BYTES} bytes (MOST_EXPANDED_BYTES): "
        "ask for less with limit or only"
    )
    return refused(text).at("MOST_EXPANDED_BYTES")
