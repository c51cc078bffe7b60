"""Answers to repeated requests: the outcome of the first one, as far as the caller may see its entities now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import orjson

from auth.view import View
from hub.services.written import Shown
from stores.matcher import Predicate, compile_filter
from stores.newest import Newest
from stores.protocol import UNBOUNDED, Engine, Written
from stores.query import EVERYTHING, Filter, Projection
from stores.turns import Turn

_ID_BEGINS: Final = b'{"_id":"'
_ID_ENDS: Final = len(_ID_BEGINS) + 24
_ID_ALONE: Final = Projection((("_id",),))


async def as_seen_now(engine: Engine, outcomes: Sequence[Shown]) -> list[Shown]:
    """Return the outcomes of an earlier request without the views of those whose entities their readers can no longer
    see.

    An entity that is deleted is judged as it was written: by the rule of today, on what the first answer shows."""
    views = {reader.store: reader for reader, _ in outcomes if reader is not None and reader.where != EVERYTHING}
    if not views:
        return [*outcomes]
    ids: list[str] = []
    turn = Turn()
    for _, written in outcomes:
        ids.append(_id_of(written.entity))
        if turn.is_over:
            await turn.pass_on()
    visible = {
        store: await _VisibleIds.of(engine, view, _ids_in(store, outcomes, ids)) for store, view in views.items()
    }
    seen: list[Shown] = []
    for (reader, written), id in zip(outcomes, ids, strict=True):
        is_hidden = reader is not None and reader.store in visible and not visible[reader.store].has(id, written)
        seen.append((None if is_hidden else reader, written))
        if turn.is_over:
            await turn.pass_on()
    return seen


def _ids_in(store: str, outcomes: Sequence[Shown], ids: Sequence[str]) -> tuple[str, ...]:
    """Return the distinct ids of those outcomes that are about a store."""
    both = zip(outcomes, ids, strict=True)
    return tuple(dict.fromkeys(id for (reader, _), id in both if reader is not None and reader.store == store))


class _VisibleIds:
    """The entities of one store that a reader can see."""

    def __init__(self, visible: frozenset[str], hidden: frozenset[str], sees: Predicate) -> None:
        self._visible = visible
        self._hidden = hidden
        self._sees = sees

    @classmethod
    async def of(cls, engine: Engine, view: View, ids: tuple[str, ...]) -> _VisibleIds:
        visible = await _present(engine, view.store, ids, view.where)
        missing = tuple(id for id in ids if id not in visible)
        hidden = await _present(engine, view.store, missing, EVERYTHING) if missing else frozenset[str]()
        return cls(visible, hidden, compile_filter(view.where))

    def has(self, id: str, written: Written) -> bool:
        if id in self._visible:
            return True
        return id not in self._hidden and self._sees(orjson.loads(written.entity))


async def _present(engine: Engine, store: str, ids: tuple[str, ...], where: Filter) -> frozenset[str]:
    """Return those of the ids whose entities meet `where`."""
    wanted = Newest(("_id",), ids, 1, UNBOUNDED, where)  # bounded by the ids
    return frozenset(str(id) for id in await engine.newest(store, wanted, _ID_ALONE))


def _id_of(text: bytes) -> str:
    """Return the id of an entity, with which its text begins: it may have megabytes."""
    if text.startswith(_ID_BEGINS) and text[_ID_ENDS : _ID_ENDS + 1] == b'"':
        return text[len(_ID_BEGINS) : _ID_ENDS].decode()
    return str(orjson.loads(text)["_id"])
