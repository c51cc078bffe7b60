"""The part of a written entity that its writer may see, and protection against learning values by writing."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import orjson

from auth.view import View
from stores.computing import OperatorChange
from stores.projection import compile_projection
from stores.protocol import Written
from stores.turns import Turn

Shown = tuple[View | None, Written]
"""The outcome of a write, and the view by which its entity is shown: None shows only id and revision."""


def text_of(reader: View | None, written: Written) -> bytes:
    """Return the entity as JSON text; only its id and revision for a writer that may not read it (`reader` is None)."""
    return _renderer_of(reader)(written)


async def texts_of(reader: View | None, written: list[Written]) -> list[tuple[bytes, int]]:
    """Return the texts of several entities, with their revisions."""
    if len(written) == 1:
        return [(text_of(reader, written[0]), written[0].rev)]
    return await shown_texts((reader, each) for each in written)


async def shown_texts(outcomes: Iterable[Shown]) -> list[tuple[bytes, int]]:
    """Return the texts of several entities, each for its own reader, with their revisions."""
    texts: list[tuple[bytes, int]] = []
    turn = Turn()
    render, its_reader = _renderer_of(None), None
    for reader, each in outcomes:
        if reader is not its_reader:
            render, its_reader = _renderer_of(reader), reader
        texts.append((render(each), each.rev))
        if turn.is_over:
            await turn.pass_on()
    return texts


def is_forced(reader: View | None, fields: Iterable[str], compute: OperatorChange | None = None) -> bool:
    """Return whether a write of these fields, and of those that it computes, is made even if it changes nothing: an
    unchanged revision would confirm a guess to a writer who may not see the value. `reader` is the writer's View of the
    store, None if it may not read."""
    if reader is None:
        return True
    hidden = reader.hidden
    if not hidden:
        return False
    return not hidden.isdisjoint(fields) or (compute is not None and not hidden.isdisjoint(compute.names))


def _renderer_of(reader: View | None) -> Callable[[Written], bytes]:
    if reader is None:
        return lambda written: orjson.dumps({"_id": orjson.loads(written.entity)["_id"], "_rev": written.rev})
    if reader.whole.everything:
        return lambda written: written.entity
    project = compile_projection(reader.whole)
    return lambda written: orjson.dumps(project(orjson.loads(written.entity)))
