"""Expansion: references in entities become the entities that they refer to, as the reader sees these.

Each hop of the plan (`hub.services.expansion_plan`) is one query for the whole page. What it leads to is put in as JSON
text: a text that stands in many places is in memory once until the answer is written, and the bytes of the answer are
counted before. A small page is parsed once. Of a larger one, only the texts are kept between its two uses, to find what
it refers to and to write it: parsed entities take several times as much memory.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from json import JSONDecoder
from typing import Annotated, Any, Final, TypeVar

import orjson

from auth.policy import authorize
from auth.positions import bind
from auth.principal import Principal
from hub.services.expansion_plan import Expand, Hop, Level, Planner, refused
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
from stores.turns import Places

T = TypeVar("T")

MOST_EXPANDED: Final[Annotated[int, Limit("request with `expand`", "entities", "`Link`")]] = 1_000
MOST_TARGETS: Final[Annotated[int, Limit("page and path", "values to look up", "400")]] = 10_000
MOST_EXPANDED_BYTES: Final[Annotated[int, Limit("request with `expand`", "bytes of the answer", "400")]] = 16_777_216
MOST_LARGE_EXPANSIONS: Final[Annotated[int, Limit("process", "large expansions at a time", "waits")]] = 8
MOST_LARGE_EXPANSIONS_EACH: Final[Annotated[int, Limit("user", "large expansions at a time", "waits")]] = 4

LARGE: Final = 1_048_576
"""Bytes of entities that have been read for an expansion, from which on it is a large one."""

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


@dataclass(frozen=True, slots=True)
class ExpandedPage:
    """Entities as JSON texts. `position` and `next`: see `Listing`; `rev`: the revision of a single entity."""

    texts: list[bytes]
    position: str = ""
    next: tuple[Json, ...] | None = None
    rev: int = 0


class _Page:
    """The entities of one level: parsed if they are small, so that `written` changes them, and as texts otherwise."""

    __slots__ = ("_entities", "_texts", "size")

    def __init__(self, size: int, texts: Sequence[bytes], entities: list[Entity] | None = None) -> None:
        self.size = size
        self._texts = texts
        self._entities = entities

    @classmethod
    def of_texts(cls, texts: Sequence[bytes]) -> _Page:
        size = sum(map(len, texts))
        return cls(size, texts, [orjson.loads(text) for text in texts] if size <= SMALL else None)

    def __iter__(self) -> Iterator[Entity]:
        return map(orjson.loads, self._texts) if self._entities is None else iter(self._entities)


class Expansions:
    """Reads entities and what they refer to."""

    def __init__(self, engine: Engine, registry: StoreRegistry, long_lists: LongLists) -> None:
        self._engine = engine
        self._registry = registry
        self._long_lists = long_lists
        self._large = Places(MOST_LARGE_EXPANSIONS, MOST_LARGE_EXPANSIONS_EACH)

    async def get(self, principal: Principal, store: str, id: str, expand: Expand) -> ExpandedPage:
        """Return one entity. Raises NotFound, for an invisible entity as well."""
        plan = self._plan(principal, store, expand)
        found = await self._engine.get(store, id, plan.view.where, plan.read) if is_id(id) else None
        if found is None:
            raise NotFound(f"no {store}/{id}")
        text, rev = found
        async with self._expansion(principal) as expansion:
            await expansion.count(len(text))
            return ExpandedPage(await expansion.expanded_texts([text], plan), rev=rev)

    async def find(self, principal: Principal, store: str, query: Query, expand: Expand) -> ExpandedPage:
        """Return a page of at most MOST_EXPANDED entities."""
        plan = self._plan(principal, store, expand)
        limit = min(query.limit, MOST_EXPANDED)
        query = Query(plan.view.narrowed(query.where), query.sort, query.offset, limit, query.after)
        place = self._long_lists.place(principal.user_id)
        async with self._expansion(principal) as expansion:
            try:
                listing = await self._engine.find(store, query, plan.read, place.enter)
                page = await expansion.page_of(listing)
            finally:
                place.leave()
            position = bind(listing.position, plan.view.digest)
            return ExpandedPage(await expansion.expanded(page, plan), position, listing.next)

    def _plan(self, principal: Principal, store: str, expand: Expand) -> Level:
        view = authorize(principal, self._registry.get(store), "GET")
        return Planner(self._registry, principal).plan(view, expand)

    @asynccontextmanager
    async def _expansion(self, principal: Principal) -> AsyncIterator[_Expansion]:
        async with AsyncExitStack() as held:
            yield _Expansion(self._engine, partial(held.enter_async_context, self._large.place(principal.user_id)))


class _Expansion:
    """One expansion. What it reads is in memory until the answer is written. So when it gets large, it takes one of few
    places with `enter`, before it reads on."""

    def __init__(self, engine: Engine, enter: Callable[[], Awaitable[None]]) -> None:
        self._engine = engine
        self._enter = enter
        self._is_large = False
        self._bytes = 0
        self._on_loop = ON_LOOP

    async def count(self, size: int) -> None:
        """Count bytes that the answer will have. Raises InvalidQuery when they are too many."""
        self._bytes += size
        if self._bytes > MOST_EXPANDED_BYTES:
            raise too_large()
        if self._bytes > LARGE:
            await self._grow()

    async def _grow(self) -> None:
        if not self._is_large:
            await self._enter()
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
        return await self.expanded(_Page.of_texts(texts), level) if level.hops else texts

    async def expanded(self, page: _Page, level: Level) -> list[bytes]:
        """Return the texts of a level's entities as they are shown, with what they refer to in its place."""
        weight = page.size if all(hop.plain_field for hop in level.hops) else page.size << _MANY
        sought = await self._work(weight, values_in, page, level.hops)
        found = [await self._find(hop, values) for hop, values in zip(level.hops, sought, strict=True)]
        more = sum(len(text) for answer in found for each in answer.values() for text in each)
        return await self._work(weight + (more >> _COPIED), written, page, level, found)

    async def _work(self, size: int, function: Callable[..., T], *arguments: Any) -> T:
        """Return the result of a function on `size` bytes of entities, called here or in a thread."""
        self._on_loop -= size
        if self._on_loop >= 0:
            return function(*arguments)
        return await in_thread(function, *arguments)

    async def _find(self, hop: Hop, values: set[Value]) -> Texts:
        """Return what a hop leads to, expanded in turn."""
        level = hop.level
        if level is None or not values:
            return {}
        found = await self._read(hop, level, tuple(values))
        texts = [text for each in found.values() for text in each]
        size = sum(map(len, texts))
        await self.count(size)
        expanded = await self.expanded_texts(texts, level)
        if expanded is texts:
            return found
        await self.count(sum(map(len, expanded)) - size)
        following = iter(expanded)
        return {value: [next(following) for _ in each] for value, each in found.items()}

    async def _read(self, hop: Hop, level: Level, values: tuple[Value, ...]) -> Texts:
        """Read what a hop leads to. What turns out to be large is read again, in a place for large expansions."""
        wanted = Newest(hop.path, values, hop.each, MOST_EXPANDED_BYTES, level.view.where)
        store = level.view.store
        try:
            if not self._is_large:
                with suppress(ReadTooLarge):
                    return await self._engine.newest(store, replace(wanted, most_bytes=LARGE), level.read)
                await self._grow()
            return await self._engine.newest(store, wanted, level.read)
        except ReadTooLarge:
            raise too_large() from None
        except NotFound:  # the store has just been deleted
            return {}


def values_in(page: Iterable[Entity], hops: Sequence[Hop]) -> list[set[Value]]:
    """Return the values that each hop looks up for these entities. Raises InvalidQuery when they are too many."""
    sought: list[set[Value]] = [set() for _ in hops]
    each_hop = [(hop.plain_field, hop, values) for hop, values in zip(hops, sought, strict=True)]
    for entity in page:
        for name, hop, values in each_hop:
            if name and type(value := entity.get(name)) is str:
                values.add(value)
            else:
                values |= hop.values(entity)
            if len(values) > MOST_TARGETS:
                what = f"{hop.text} leads to more than {MOST_TARGETS} entities (MOST_TARGETS): ask for fewer with limit"
                raise refused(what).at("MOST_TARGETS")
    return sought


def written(page: _Page, level: Level, found: Sequence[Texts]) -> list[bytes]:
    """Return the texts of entities with what `found` has for each hop. Raises InvalidQuery when they become too
    large."""
    project = compile_projection(level.shown) if level.read != level.shown else None
    room = _Room(page.size)
    reverse = [(hop, hop.text, answer) for hop, answer in zip(level.hops, found, strict=True) if hop.is_reverse]
    forward = [
        (hop.relation, _stand_in(hop, answer, room))
        for hop, answer in zip(level.hops, found, strict=True)
        if not hop.is_reverse
    ]
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


async def pieces_of(listing: Listing) -> AsyncGenerator[bytes]:
    """Yield the pieces of a list."""
    if isinstance(listing.body, bytes):
        yield listing.body
        return
    async with aclosing(listing.body) as pieces:  # type: ignore[type-var]
        async for piece in pieces:
            yield piece


def texts_in(piece: bytes) -> list[bytes]:
    """Return the texts of the entities in a piece of a list, which ends with an entity or with the list."""
    start = 1 if piece[:1] in (b"[", b",") else 0
    inner = piece[start : len(piece) - piece.endswith(b"]")]
    if len(inner) > LARGE:
        return [*_split(inner.decode())]
    entities: list[Entity] = orjson.loads(b"[" + inner + b"]")
    return [orjson.dumps(entity) for entity in entities]


def _split(entities: str) -> Iterator[bytes]:
    """Yield the texts between commas. They are parsed one by one: parsing megabytes in one call would hold the
    interpreter, and with it the event loop."""
    find_end, start = JSONDecoder().raw_decode, 0
    while start < len(entities):
        _, end = find_end(entities, start)
        yield entities[start:end].encode()
        start = end + 1
