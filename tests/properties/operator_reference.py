"""The reference of operators, written from the contract alone: one function of an entity and a body."""

from __future__ import annotations

from copy import deepcopy
from decimal import Decimal
from typing import Any

from stores.records import Entity


class Refused(Exception):
    """The body does not fit the entity."""


MISSING = object()


def changed(entity: Entity, body: Entity, numeric: frozenset[str] = frozenset()) -> Entity:
    """Return the entity after the plain fields and the operators of a body. `numeric` are the fields whose numbers are
    decimals. Raises Refused."""
    after = deepcopy(entity)
    for name, argument in body.items():
        if not name.startswith("$"):
            after[name] = deepcopy(argument)
        elif name == "$unset":
            for path in argument:
                write(after, path.split("."), MISSING)
        else:
            for path, value in argument.items():
                operate(after, name, path, deepcopy(value), path in numeric)
    return after


def operate(after: Entity, name: str, path: str, value: Any, decimal: bool) -> None:
    segments = path.split(".")
    found = read(after, segments)
    if name == "$set":
        write(after, segments, value)
    elif name == "$inc":
        write(after, segments, value if found is None else total(found, value, decimal))
    elif name in ("$min", "$max"):
        if found is not None and comparable(found) != comparable(value):
            raise Refused(path)
        if found is None or (value < found if name == "$min" else value > found):
            write(after, segments, value)
    elif name == "$pull":
        if found is not None:
            write(after, segments, [each for each in listed(found) if not equal(each, value)])
    else:
        new = value["$each"] if isinstance(value, dict) and "$each" in value else [value]
        result = list(listed(found)) if found is not None else []
        for each in new:
            if name == "$push" or not any(equal(each, there) for there in result):
                result.append(each)
        write(after, segments, result)


def read(entity: Entity, segments: list[str]) -> Any:
    """Return the value at a path, None if it is missing."""
    node: Any = entity
    for segment in segments:
        if node is None:
            return None
        if not isinstance(node, dict):
            raise Refused(segment)
        node = node.get(segment)
    return node


def write(entity: Entity, segments: list[str], value: Any) -> None:
    read(entity, segments)
    node = entity
    for segment in segments[:-1]:
        if node.get(segment) is None:
            if value is MISSING:
                return
            node[segment] = {}
        node = node[segment]
    if value is MISSING:
        node.pop(segments[-1], None)
    else:
        node[segments[-1]] = value


def total(a: Any, b: Any, decimal: bool) -> Any:
    if comparable(a) != "number":
        raise Refused("not a number")
    if decimal:
        exact = Decimal(str(a)) + Decimal(str(b))
        if abs(exact) >= 10**12:
            raise Refused("beyond decimal(15,3)")
        return int(exact) if exact == exact.to_integral_value() else float(exact)
    result = a + b
    if isinstance(result, int) and result.bit_length() > 63 and result != -(2**63):
        raise Refused("beyond 64 bits")
    if result in (float("inf"), float("-inf")):
        raise Refused("no number")
    return result


def comparable(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return "other" + type(value).__name__
    return "text" if isinstance(value, str) else "number"


def listed(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise Refused("not a list")
    return value


def equal(a: Any, b: Any) -> bool:
    """Return whether two JSON values are equal: numbers by value, true is no number, members in any order."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(equal(a[name], b[name]) for name in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    return not isinstance(a, dict | list) and not isinstance(b, dict | list) and bool(a == b)
