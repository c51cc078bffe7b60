"""What a writer is shown of what it wrote, and what it must not learn by writing."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import orjson

from auth.view import View
from stores.projection import compile_projection
from stores.protocol import Written
from stores.turns import Turn


def text_of(reader: View | None, written: Written) -> bytes:
    """The entity as JSON text; for a writer that may not read it (`reader` is None), its id and revision only."""
    return _shower(reader)(written)


async def texts_of(reader: View | None, written: list[Written]) -> list[tuple[bytes, int]]:
    """The same of several, with their revisions."""
    show = _shower(reader)
    if len(written) == 1:
        return [(show(written[0]), written[0].rev)]
    texts: list[tuple[bytes, int]] = []
    turn = Turn()
    for each in written:
        texts.append((show(each), each.rev))
        if turn.is_over:
            await turn.pass_on()
    return texts


def is_forced(reader: View | None, fields: Iterable[str]) -> bool:
    """Whether a write of these fields is made even if it alters nothing: a revision that stays would confirm a guess
    to a writer who may not see the value. `reader` is the writer's view of the store, None if it may not read it."""
    return reader is None or not reader.hidden.isdisjoint(fields)


def _shower(reader: View | None) -> Callable[[Written], bytes]:
    if reader is None:
        return lambda written: orjson.dumps({"_id": orjson.loads(written.entity)["_id"], "_rev": written.rev})
    if reader.whole.everything:
        return lambda written: written.entity
    project = compile_projection(reader.whole)
    return lambda written: orjson.dumps(project(orjson.loads(written.entity)))
