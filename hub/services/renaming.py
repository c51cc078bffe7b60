"""Renames a store while the hub is stopped: its storage, its definition, and the scopes and references that name it."""

from __future__ import annotations

from typing import Any

from auth.scopes import BadScope, parse_scope
from auth.system_stores import DEFINITIONS
from hub.services.registry import RESERVED
from hub.services.walking import each_entity
from stores.definitions import parse_definition
from stores.errors import Conflict, NotFound
from stores.protocol import Engine, Update, Write
from stores.query import Equal, Query
from stores.records import Entity


async def rename_store(engine: Engine, old: str, new: str) -> None:
    """Rename a store. After an interruption it can be repeated. Raises NotFound, Conflict and InvalidEntity."""
    if new in RESERVED:
        raise Conflict(f"the name {new} is reserved")
    await engine.define(DEFINITIONS)
    definition = await _definition(engine, old)
    if definition is None:
        raise NotFound(f"there is no store {old}")
    if await _definition(engine, new) is not None:
        raise Conflict(f"there is a store {new}")
    parse_definition(definition | {"name": new})
    writes: list[Write] = []
    async for each in each_entity(engine, "stores"):
        changes: Entity = {"name": new} if each["_id"] == definition["_id"] else {}
        fields = _retargeted(each.get("fields"), old, new)
        if fields != each.get("fields"):
            changes["fields"] = fields
        if changes:
            writes.append(Update("stores", each["_id"], changes))
    for store in ("roles", "tokens"):
        writes += [
            Update(store, holder["_id"], {"scopes": scopes})
            async for holder in each_entity(engine, store)
            if (scopes := _renamed(holder.get("scopes"), old, new)) != holder.get("scopes")
        ]
    await engine.rename(old, new, writes)


async def _definition(engine: Engine, name: str) -> Entity | None:
    found = await engine.entities("stores", Query(Equal(("name",), name), limit=1))
    return found[0] if found else None


def _retargeted(fields: Any, old: str, new: str) -> Any:
    """Return the fields of a definition, or those of an object, with the store's new name in references."""
    if not isinstance(fields, list):
        return fields
    return [_retargeted_field(each, old, new) if isinstance(each, dict) else each for each in fields]


def _retargeted_field(field: Entity, old: str, new: str) -> Entity:
    changes: Entity = {"store": new} if field.get("store") == old else {}
    if "fields" in field:
        changes["fields"] = _retargeted(field["fields"], old, new)
    return {**field, **changes}


def _renamed(scopes: object, old: str, new: str) -> object:
    """Return the scopes with the store's new name."""
    return [_renamed_scope(scope, old, new) for scope in scopes] if isinstance(scopes, list) else scopes


def _renamed_scope(scope: object, old: str, new: str) -> object:
    try:
        method, store = parse_scope(str(scope))
    except BadScope:
        return scope
    return f"{method} /{new}/*" if store == old else scope
