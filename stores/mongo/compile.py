"""Compilation of filter trees to MongoDB match expressions, and of sorts and projections to their documents."""

from __future__ import annotations

import re
import struct
from typing import Any, Final

import bson
from bson.raw_bson import RawBSONDocument

from stores import matcher, query
from stores.errors import InvalidQuery
from stores.folding import pattern
from stores.mongo.codec import BY, to_id
from stores.query import Filter, Leaf, Projection, Sort

Match = dict[str, Any]
Path = tuple[str, ...]

NO_MATCH: Final[Match] = {"_id": {"$in": []}}
REVISION: Final = "_rev"
UNNUMBERED: Final[Match] = {"$nor": [{REVISION: {"$type": ["int", "long", "double"], "$not": {"$type": "array"}}}]}
"""The condition for documents without a valid revision, whose revision is 0 (`stores.mongo.codec.revision`)."""

_LONGEST_ARRAY = 2**31 - 1
_MANY: Final = 20
"""Values of `$all` up to which the planner sees them all."""


def compile_filter(node: Filter) -> Match:
    """Return the match expression of a tree. Raises InvalidQuery for a path into a field of the engine's own."""
    return _compile(node, top=True)


def conjunction(*parts: Match) -> Match:
    """Return the conjunction of `parts`, without those that are empty."""
    needed = [part for part in parts if part]
    return needed[0] if len(needed) == 1 else {"$and": needed} if needed else {}


def _compile(node: Filter, *, top: bool) -> Match:
    """Return the match expression of a node. `top`: paths start in the entity, where `_id` is an ObjectId, and not in
    an element of an array."""
    if isinstance(node, query.And):
        return _conjunction_of(node.parts, top)
    if isinstance(node, query.Or):
        return {"$or": [_compile(part, top=top) for part in node.parts]} if node.parts else NO_MATCH
    if isinstance(node, query.Not):
        return _negation(node.part, top)
    if isinstance(node, Leaf) and top and node.path[0] == REVISION:
        return _on_revision(node)
    if isinstance(node, Leaf):
        return {field_name(node.path, top=top): _condition(node, is_id=top and node.path == ("_id",))}
    raise TypeError(f"not a filter: {node!r}")


def _on_revision(node: Leaf) -> Match:
    """Return the condition on `_rev`. A document that another program wrote without a revision has revision 0, but no
    value for MongoDB to compare."""
    own = {field_name(node.path): _condition(node, is_id=False)}
    holds_for_zero = matcher.matches(node, {REVISION: 0})
    return {"$or": [own, UNNUMBERED]} if holds_for_zero else {"$and": [own, {"$nor": [UNNUMBERED]}]}


def _conjunction_of(parts: tuple[Filter, ...], top: bool) -> Match:
    path = parts[0].path if parts and isinstance(parts[0], query.Equal) else ()
    own = path in (("_id",), (REVISION,))
    if len(parts) <= _MANY or own or not all(isinstance(p, query.Equal) and p.path == path for p in parts):
        return conjunction(*[_compile(part, top=top) for part in parts])
    # `$all` of many values. An index is used for the first value. The others are hidden from the planner, which would
    # try a plan for each (measured: with 10 000 values this takes longer than the read timeout).
    rest = [part.value for part in parts[1:] if isinstance(part, query.Equal)]
    return conjunction(_compile(parts[0], top=top), {"$nor": [{field_name(path, top=top): {"$not": {"$all": rest}}}]})


def _negation(part: Filter, top: bool) -> Match:
    if isinstance(part, query.Or):
        return {"$nor": [_compile(p, top=top) for p in part.parts]} if part.parts else {}
    if isinstance(part, query.In) and None in part.values:
        # MongoDB reuses a cached plan for `$nin` without null for `$nin` with null, and then misses empty arrays in the
        # index (seen in 6.0). `$nor` with two operands uses no index.
        return {"$nor": [_compile(part, top=top), NO_MATCH]}
    if isinstance(part, query.Equal | query.In) and not (top and part.path[0] == REVISION):
        # The planner can use an index for $ne and $nin, but not for $nor.
        [(name, condition)] = _compile(part, top=top).items()
        operand = next(iter(condition.values()))
        return {name: {"$ne" if isinstance(part, query.Equal) else "$nin": operand}}
    return {"$nor": [_compile(part, top=top)]}


def field_name(path: Path, *, top: bool = True) -> str:
    """Return a path in MongoDB's dotted notation. Raises InvalidQuery for the field of the last writer."""
    if top and path[0] == BY:
        raise InvalidQuery(BY, f"{BY} is not a field of an entity")
    return ".".join(path)


def _condition(node: Leaf, is_id: bool) -> Match:
    """Return the operators of a leaf, for use as the value of its path or inside an `$elemMatch`."""
    match node:
        case query.Equal(value=value):
            return {"$eq": to_id(value) if is_id else value}
        case query.In(values=values):
            return {"$in": [to_id(v) for v in values] if is_id else list(values)}
        case query.Compare(op=op, value=value):
            return {f"${op}": to_id(value) if is_id else value}
        case query.Exists():
            return {"$exists": True}
        case query.Size(size=size):
            return {"$size": size} if size <= _LONGEST_ARRAY else {"$in": []}
        case query.Contains(text=text):
            return {"$regex": re.escape(text)}
        case query.ContainsFolded(text=text):
            return {"$regex": pattern(text)}
        case query.StartsWith(text=text):
            return {"$regex": "^" + re.escape(text)}
        case query.ElemMatch(condition=condition, on_value=True):
            return {"$elemMatch": _on_element(condition)}
        case query.ElemMatch(condition=condition):
            return {"$elemMatch": _compile(condition, top=False)}
    raise TypeError(f"not a leaf: {node!r}")


def _on_element(node: Filter) -> Any:
    """Return a condition on an element itself as one document of operators: MongoDB has no `$and` or `$or` there."""
    if isinstance(node, query.And):
        return _side_by_side([_on_element(part) for part in node.parts]) if node.parts else {"$nin": []}
    if isinstance(node, query.Or):
        refused = [{"$not": _on_element(part)} for part in node.parts]
        return {"$not": _side_by_side(refused)} if refused else {"$in": []}
    if isinstance(node, query.Not):
        return {"$not": _on_element(node.part)}
    if isinstance(node, Leaf):
        return _condition(node, is_id=False)
    raise TypeError(f"not a filter: {node!r}")


def _side_by_side(conditions: list[Any]) -> Any:
    """Return one document with all the operators. It is built as BSON, because it may have the same operator twice."""
    body = b"".join(bson.encode(condition)[4:-1] for condition in conditions)
    return RawBSONDocument(struct.pack("<i", len(body) + 5) + body + b"\0")


def compile_sort(sort: tuple[Sort, ...]) -> dict[str, int]:
    return {field_name(s.path): -1 if s.descending else 1 for s in sort}


def compile_projection(projection: Projection, needed: tuple[Path, ...]) -> dict[str, int]:
    """Return a projection of top-level fields, so that the database does not send fields in vain. It excludes hidden
    fields, or includes the fields that are shown or `needed` otherwise. `stores.projection` does the rest."""
    tops = {path[0] for path in needed}
    if projection.only is not None:
        shown = {path[0] for path in projection.only if projection.shows(path[0])}
    elif projection.known is not None and all(map(_is_plain, projection.known)):
        shown = {*projection.known} - projection.hidden
    else:
        return {name: 0 for name in (BY, *sorted(projection.hidden - tops)) if _is_plain(name)}
    return {name: 1 for name in sorted(shown | tops | {"_id"}) if name != BY and _is_plain(name)}


def _is_plain(name: str) -> bool:
    """Return whether a MongoDB projection can contain the name. Names of hidden fields from definitions may be any
    text."""
    return bool(name) and not name.startswith("$") and "." not in name
