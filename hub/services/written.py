"""The part of a written entity that its writer may see, and protection against learning values by writing."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import orjson

from auth.view import View
from stores.computing import OperatorChange
from stores.projection import compile_projection
from stores.protocol import Written
from stores.turns import Turn


def text_of(reader: View | None, written: Written) -> bytes:
    """Return the entity as JSON text; only its id and revision for a writer that may not read it (`reader` is None)."""
    return _renderer_of(reader)(written)


async def texts_of(reader: View | None, written: list[Written]) -> list[tuple[bytes, int]]:
    """Return the texts of several entities, with their revisions."""
    render = _renderer_of(reader)
    if len(written) == 1:
        return [(render(written[0]), written[0].rev)]
    texts: list[tuple[bytes, int]] = []
    turn = Turn()
    for each in written:
        texts.append((render(each), each.rev))
        if turn.is_over:
            await turn.pass_on()
    return texts


def is_forced(reader: View | None, fields: Iterable[str], compute: OperatorChange | None = None) -> bool:
    """Return whether a write of these fields, and of those that it computes, is made even if it changes nothing: an
    unchanged revision would confirm a guess to a writer who may not see the value. `reader` is the writer's View of the
    store, None if it may not read."""
    if reader is None or not reader.hidden.isdisjoint(fields):
        return True
    return compute is not None and not reader.hidden.isdisjoint(compute.names)


def _renderer_of(reader: View | None) -> Callable[[Written], bytes]:
    if reader is None:
        return lambda written: orjson.dumps({"_id": orjson.loads(written.entity)["_id"], "_rev": written.rev})
    if reader.whole.everything:
        return lambda written: written.entity
    project = compile_projection(reader.whole)
    return lambda written: orjson.dumps(project(orjson.loads(written.entity)))
