"""Checks lists of ids that refer to entities of a system store."""

from __future__ import annotations

from typing import Any, Final

from hub.services.credentials import refuse
from stores.protocol import Engine
from stores.query import In, Query
from stores.records import is_id

AT_ONCE: Final = 500
"""Entities looked up in one query."""


async def known_ids(engine: Engine, store: str, field: str, ids: list[Any]) -> list[str]:
    """Return the distinct ids of a list sent in `field`. Raises InvalidEntity for an id that does not exist."""

    def refused(id: object) -> Exception:
        return refuse(field, f"There is no {store.removesuffix('s')} with the id {id!r}.")

    for id in ids:
        if not is_id(id):
            raise refused(id)
    wanted: list[str] = list(dict.fromkeys(ids))
    for piece in (tuple(wanted[n : n + AT_ONCE]) for n in range(0, len(wanted), AT_ONCE)):
        known = {entity["_id"] for entity in await engine.entities(store, Query(In(("_id",), piece)))}
        for id in piece:
            if id not in known:
                raise refused(id)
    return wanted
