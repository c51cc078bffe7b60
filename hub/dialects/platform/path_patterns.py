"""Patterns of the dotted paths that a query of a store may name, for the OpenAPI document. They accept what
`View.check_path` accepts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from hub.openapi.schemas import literal
from stores.field import Field
from stores.fields.base import ParameterForm
from stores.fields.inside import is_list
from stores.records import SYSTEM_FIELDS, SYSTEM_LISTS
from stores.schema import StoreDefinition

_SPACE: Final = r"\s\x00\x1c-\x1f\x85"
IN_LIST: Final = rf"[^.,${_SPACE}](?:[^.,]*[^.,{_SPACE}])?"
IN_BY: Final = rf"[^.,:${_SPACE}](?:[^.,:]*[^.,:{_SPACE}])?"
IN_NAME: Final = r"[^.$\[\]\x00][^.\[\]\x00]*"
IN_FILTER: Final = r"[^.$\x00][^.\x00]*"
"""Pattern of a path segment in a comma-separated list, in `by`, a parameter name, and a filter, respectively."""

_POSITION: Final = r"(?:\.[0-9]+)?"
_REFERRING: Final = (
    r"[A-Za-z][A-Za-z0-9_-]{0,62}"
    r"\([^.,()$\x00][^.,()\x00]*(?:\.[^.,()$\x00][^.,()\x00]*)*\)"
)
"""Pattern of a segment of `only` that leads to what refers here: `orders(lines.product)`."""


def all_paths(definition: StoreDefinition, segment: str, *, through_references: bool = False) -> str:
    """Return the pattern of all paths. With `through_references`, they lead on behind references, and to what refers
    here."""
    found = [system_paths(SYSTEM_FIELDS)]
    if through_references:
        found.append(_below(_REFERRING, segment))
    found += [_paths_of(f, segment, through_references) for f in definition.fields if not f.hidden]
    if definition.open:
        found.append(free_paths(definition, segment))
    return f"(?:{'|'.join(found)})"


def free_paths(definition: StoreDefinition, segment: str) -> str:
    """Return the pattern of the paths that begin with a field without a type, in an open store."""
    taken = _any_of([*SYSTEM_FIELDS, *definition.by_id, *sorted(definition.hidden - definition.by_id.keys())])
    end = r"(?:[.:\[]|$)" if segment == IN_BY else r"(?:[.\[]|$)"
    return _below(f"(?!{taken}{end}){segment}", segment)


def system_paths(names: Iterable[str]) -> str:
    """Return the pattern of the paths of system fields."""
    return f"(?:{'|'.join(literal(name) + (_POSITION if name in SYSTEM_LISTS else '') for name in names)})"


def typed_paths(fields: Iterable[Field], segment: str) -> Iterator[tuple[str, ParameterForm]]:
    """Yield (pattern of the paths, form of their values) for fields and for those inside of objects."""
    for field in fields:
        paths = _below(literal(field.id), segment) if field.kind.free else _field_pattern(field)
        yield paths, field.typed.kind.parameter
        for inner, form in typed_paths(field.fields, segment):
            yield rf"{_field_pattern(field)}\.{inner}", form


def _paths_of(field: Field, segment: str, through_references: bool) -> str:
    if field.kind.free or (through_references and field.store):
        return _below(literal(field.id), segment)
    inner = "|".join(_paths_of(member, segment, through_references) for member in field.fields)
    return rf"{_field_pattern(field)}(?:\.(?:{inner}))?" if inner else _field_pattern(field)


def _field_pattern(field: Field) -> str:
    """Return the pattern of the paths of a field itself, and of an element of its list."""
    return literal(field.id) + (_POSITION if is_list(field) else "")


def _any_of(names: Iterable[str]) -> str:
    return f"(?:{'|'.join(map(literal, names))})"


def _below(top: str, segment: str) -> str:
    return rf"{top}(?:\.{segment})*"
