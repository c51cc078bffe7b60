"""Projection of entities, used for REST answers and live events alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stores.query import Projection
from stores.records import Entity

Project = Callable[[Entity], Entity]


def compile_projection(projection: Projection) -> Project:
    """Return a function that applies `projection` to an entity. The function leaves its argument unchanged."""
    if projection.everything:
        return lambda entity: entity
    if projection.only is None:
        hidden, known = projection.hidden, projection.known
        if known is None:
            return lambda entity: {k: v for k, v in entity.items() if k not in hidden}
        shown = known - hidden
        return lambda entity: {k: v for k, v in entity.items() if k in shown}
    tree = _tree([p for p in projection.only if projection.shows(p[0])])
    return lambda entity: {"_id": entity.get("_id")} | _pick(entity, tree)


_Tree = dict[str, Any]


def _tree(paths: list[tuple[str, ...]]) -> _Tree:
    """Return paths as nested dicts; None ends a path and keeps everything below it."""
    root: _Tree = {}
    for path in paths:
        node = root
        for segment in path[:-1]:
            child = node.setdefault(segment, {})
            if child is None:
                break
            node = child
        else:
            node[path[-1]] = None
    return root


def _pick(entity: Entity, tree: _Tree) -> Entity:
    return {k: _inside(v, tree[k]) for k, v in entity.items() if k in tree and not _is_dead_end(v, tree[k])}


def _inside(value: Any, tree: _Tree | None) -> Any:
    if tree is None:
        return value
    if isinstance(value, dict):
        return _pick(value, tree)
    return [_inside(item, tree) for item in value if not _is_dead_end(item, tree)]


def _is_dead_end(value: Any, tree: _Tree | None) -> bool:
    """Return whether paths go on below a value that is neither an object nor an array."""
    return tree is not None and not isinstance(value, dict | list)
