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
    wanted = distinct_ids(store, field, ids)
    for id in await missing_ids(engine, store, wanted):
        raise unknown(store, field, id)
    return wanted


def distinct_ids(store: str, field: str, ids: list[Any]) -> list[str]:
    """Return the distinct ids of a list sent in `field`. Raises InvalidEntity for a value that is no id."""
    for id in ids:
        if not is_id(id):
            raise unknown(store, field, id)
    return list(dict.fromkeys(ids))


async def missing_ids(engine: Engine, store: str, ids: list[str]) -> list[str]:
    """Return those of the ids that do not exist."""
    missing: list[str] = []
    for piece in (tuple(ids[n : n + AT_ONCE]) for n in range(0, len(ids), AT_ONCE)):
        known = {entity["_id"] for entity in await engine.entities(store, Query(In(("_id",), piece)))}
        missing += (id for id in piece if id not in known)
    return missing


def unknown(store: str, field: str, id: object) -> Exception:
    return refuse(field, f"There is no {store.removesuffix('s')} with the id {id!r}.")
