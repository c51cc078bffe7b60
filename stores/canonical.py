"""Canonical text of filters, independent of the Python classes of the tree: equal trees have equal texts.

The text is JSON without blanks, in ASCII. A node is a list of its name and its parts; a path is a list of segments:

    ["and",NODE,…]  ["or",NODE,…]  ["not",NODE]
    ["eq",PATH,VALUE]  ["in",PATH,[VALUE,…]]  ["gt",PATH,VALUE] and so for gte, lt and lte
    ["exists",PATH]  ["size",PATH,NUMBER]  ["contains",PATH,TEXT]  ["folded",PATH,TEXT]  ["startswith",PATH,TEXT]
    ["elem",PATH,NODE]  ["elem_value",PATH,NODE]

`folded` is `contains`, case-insensitively. The NODE of `elem_value` is a condition on the elements themselves, that of
`elem` a condition on their fields. The order of parts, values and members of objects is kept and is significant. Values
are equal as in a filter: 1 equals 1.0, and does not equal true. The names of channels are made from these texts, so the
node names above are part of the wire format.
"""

from __future__ import annotations

from json import JSONEncoder
from typing import Any, Final

from stores import query
from stores.numbers import with_whole_numbers
from stores.query import Filter

_encode: Final = JSONEncoder(separators=(",", ":")).encode
# orjson would refuse lone surrogates in texts from clients, because UTF-8 cannot encode them.


def canonical_text(value: Any) -> str:
    """Return the JSON text of lists, objects and scalars, such as the result of `tree_of`."""
    return _encode(value)


def filter_text(where: Filter) -> str:
    """Return the canonical text of a filter."""
    return _encode(tree_of(where))


def tree_of(node: Filter) -> list[Any]:
    """Return the node as nested lists, for use in a larger text."""
    match node:
        case query.And(parts=parts):
            return ["and", *map(tree_of, parts)]
        case query.Or(parts=parts):
            return ["or", *map(tree_of, parts)]
        case query.Not(part=part):
            return ["not", tree_of(part)]
        case query.Equal(path=path, value=value):
            return ["eq", path, with_whole_numbers(value)]
        case query.In(path=path, values=values):
            return ["in", path, [*map(with_whole_numbers, values)]]
        case query.Compare(path=path, op=op, value=value):
            return [op, path, with_whole_numbers(value)]
        case query.Exists(path=path):
            return ["exists", path]
        case query.Size(path=path, size=size):
            return ["size", path, size]
        case query.Contains(path=path, text=text):
            return ["contains", path, text]
        case query.ContainsFolded(path=path, text=text):
            return ["folded", path, text]
        case query.StartsWith(path=path, text=text):
            return ["startswith", path, text]
        case query.ElemMatch(path=path, condition=condition, on_value=on_value):
            return ["elem_value" if on_value else "elem", path, tree_of(condition)]
    raise TypeError(f"not a filter: {node!r}")
