"""What a writer is shown of what it wrote."""

from __future__ import annotations

from collections.abc import Callable

import orjson

from auth.policy import may_read
from auth.principal import Principal
from stores.projection import compile_projection
from stores.protocol import Written
from stores.schema import StoreDefinition
from stores.turns import Turn


def text_of(principal: Principal, definition: StoreDefinition, written: Written) -> bytes:
    """The entity as JSON text; for a writer without a scope for reading, its id and revision only."""
    return _shower(principal, definition)(written)


async def texts_of(
    principal: Principal, definition: StoreDefinition, written: list[Written]
) -> list[tuple[bytes, int]]:
    """The same of several, with their revisions."""
    show = _shower(principal, definition)
    if len(written) == 1:
        return [(show(written[0]), written[0].rev)]
    texts: list[tuple[bytes, int]] = []
    turn = Turn()
    for each in written:
        texts.append((show(each), each.rev))
        if turn.is_over:
            await turn.pass_on()
    return texts


def _shower(principal: Principal, definition: StoreDefinition) -> Callable[[Written], bytes]:
    if not may_read(principal, definition):
        return lambda written: orjson.dumps({"_id": orjson.loads(written.entity)["_id"], "_rev": written.rev})
    if definition.whole.everything:
        return lambda written: written.entity
    project = compile_projection(definition.whole)
    return lambda written: orjson.dumps(project(orjson.loads(written.entity)))
