"""The operators in the body of a change, beside its plain fields: ``{"note": "sold", "$inc": {"stock": -2}}``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Final

import orjson

from stores.bounds import Limit
from stores.errors import InvalidEntity, Violation
from stores.limits import MOST_VIOLATIONS
from stores.operators import LISTING, MOST_OPERATIONS, NO_OPERATORS, Operation, Operator, Operators
from stores.parse import MOST_SEGMENTS
from stores.paths import Path
from stores.records import Entity
from stores.turns import Turn

MOST_PATH_TEXT: Annotated[int, Limit("path of an operator", "characters", "400")] = 2_000
"""Characters of one path: errors repeat it."""

_SHOWN: Final = 100
"""Characters of a wrong name or path that an error shows."""


def has_operators(body: Entity) -> bool:
    """Return whether a body names operators."""
    return any(name[:1] == "$" for name in body)


def parse_change(body: Entity) -> tuple[Entity, Operators]:
    """Return the plain fields and the operators of a body. Raises InvalidEntity that names the operators and paths at
    fault."""
    if not has_operators(body):
        return body, NO_OPERATORS
    plain = {name: value for name, value in body.items() if name[:1] != "$"}
    given = {name: value for name, value in body.items() if name[:1] == "$"}
    violations: list[Violation] = []
    operations: list[Operation] = []
    for operation in _operations(given, violations):
        operations.append(operation)
        if len(operations) > MOST_OPERATIONS:
            text = f"The operators of one body name at most {MOST_OPERATIONS} paths."
            raise InvalidEntity([Violation(operation.operator, "invalid", text)]).at("MOST_OPERATIONS")
        if len(violations) >= MOST_VIOLATIONS:
            break
    violations += _shared_paths(plain, operations)
    _refuse(violations)
    return plain, Operators(tuple(operations), len(orjson.dumps(given)))


async def parse_changes(bodies: Sequence[Entity], indexed: bool) -> tuple[list[Entity], list[Operators]]:
    """Return the plain fields and the operators of several bodies. With `indexed`, errors contain the position of the
    body. Raises InvalidEntity."""
    plain: list[Entity] = []
    operators: list[Operators] = []
    violations: list[Violation] = []
    turn = Turn()
    for position, body in enumerate(bodies):
        try:
            fields, given = parse_change(body)
        except InvalidEntity as error:
            if not indexed:
                raise
            violations += [Violation(f"{position}.{v.field}", v.rule, v.detail) for v in error.violations]
            if error.limit_name or len(violations) >= MOST_VIOLATIONS:
                raise InvalidEntity(violations[:MOST_VIOLATIONS]).at(error.limit_name) from error
            continue
        plain.append(fields)
        operators.append(given)
        if turn.is_over:
            await turn.pass_on()
    _refuse(violations)
    return plain, operators


def _operations(given: Entity, violations: list[Violation]) -> Iterator[Operation]:
    """Yield the operations of operators, and add the mistakes in their form to `violations`."""
    for name, argument in given.items():
        operator = _OPERATORS.get(name)
        if operator is None:
            known = ", ".join(_OPERATORS)
            violations.append(Violation(name[:_SHOWN], "invalid", f"There is no such operator. Operators are {known}."))
        elif operator is Operator.UNSET:
            yield from _unset(operator, argument, violations)
        elif not isinstance(argument, dict):
            violations.append(Violation(name, "invalid", f'Takes an object of paths: {{"{name}": {{"a.b": …}}}}.'))
        else:
            for text, value in argument.items():
                path = _path(operator, text, violations)
                if path is not None:
                    yield from _FORMS.get(operator, _single)(operator, path, value, violations)


_OPERATORS: Final[Mapping[str, Operator]] = {operator.value: operator for operator in Operator}


def _unset(operator: Operator, argument: Any, violations: list[Violation]) -> Iterator[Operation]:
    if not isinstance(argument, list) or not all(isinstance(text, str) for text in argument):
        violations.append(Violation(operator, "invalid", f'Takes a list of paths: {{"{operator}": ["a.b", …]}}.'))
        return
    for text in argument:
        path = _path(operator, text, violations)
        if path is not None:
            yield Operation(operator, path)


def _path(operator: Operator, text: str, violations: list[Violation]) -> Path | None:
    """Return the segments of a path; None, with a violation, for a text that is no path."""
    path = tuple(text.split("."))
    if len(text) > MOST_PATH_TEXT:
        text = f"{text[:_SHOWN]!r}… has more than {MOST_PATH_TEXT} characters."
        violations.append(Violation(operator, "invalid", text))
    elif len(path) > MOST_SEGMENTS:
        violations.append(Violation(operator, "invalid", f"{text[:_SHOWN]!r}… has more than {MOST_SEGMENTS} segments."))
    elif not all(path) or "\0" in text or any(segment[0] == "$" for segment in path):
        violations.append(Violation(operator, "invalid", f"{text[:_SHOWN]!r} is not a field path."))
    else:
        return path
    return None


def _single(operator: Operator, path: Path, value: Any, violations: list[Violation]) -> Iterator[Operation]:
    yield Operation(operator, path, value)


def _list(operator: Operator, path: Path, value: Any, violations: list[Violation]) -> Iterator[Operation]:
    """Yield the operation of an operator that takes an element, or several: ``{"$each": […]}``."""
    if not isinstance(value, dict) or not has_operators(value):
        yield Operation(operator, path, [value])
    elif value.keys() == {"$each"} and isinstance(value["$each"], list):
        yield Operation(operator, path, value["$each"])
    else:
        text = f'{operator} takes an element, or several as {{"$each": […]}} and nothing else.'
        violations.append(Violation(".".join(path), "invalid", text))


_FORMS: Final[Mapping[Operator, Callable[[Operator, Path, Any, list[Violation]], Iterator[Operation]]]] = dict.fromkeys(
    LISTING, _list
)


def _shared_paths(plain: Entity, operations: Sequence[Operation]) -> Iterator[Violation]:
    """Yield a violation for each path that is changed twice, or below a path that is changed too."""
    # In this order, the paths that begin with a path come right behind it.
    also = {(operation.path[0],) for operation in operations if operation.path[0] in plain}
    paths = sorted([*also, *(operation.path for operation in operations)])
    first: Path | None = None
    for path in paths:
        if first is not None and path[: len(first)] == first:
            text = f"Is changed twice: this body changes {'.'.join(first)!r} as well."
            yield Violation(".".join(path), "invalid", text)
        else:
            first = path


def _refuse(violations: Sequence[Violation]) -> None:
    if violations:
        raise InvalidEntity(violations[:MOST_VIOLATIONS])
