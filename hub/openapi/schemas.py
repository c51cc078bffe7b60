"""Small schemas, parameters and references, of which the OpenAPI part of a dialect is made."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from stores.fields.base import Schema as Schema
from stores.fields.numbers import INT64 as INT64

JSON: Final = "application/json"
NULL: Final[Schema] = {"type": "null"}
MOMENT: Final[Schema] = {"type": "integer", "format": "int64", "minimum": 0, "description": "Unix milliseconds"}
TEXTS: Final[Schema] = {"type": "array", "items": {"type": "string"}}


def ref(name: str, kind: str = "schemas") -> Schema:
    """A reference to a component; `kind` is the group of components that it is in."""
    return {"$ref": f"#/components/{kind}/{name}"}


def object_of(properties: Schema, optional: Iterable[str] = ()) -> Schema:
    """An object of exactly these properties."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def query(name: str, schema: Schema, description: str, **more: Any) -> Schema:
    """A query parameter."""
    return {"name": name, "in": "query", "description": description, "schema": schema} | more


def header_parameter(name: str, schema: Schema, description: str) -> Schema:
    """A header of a request."""
    return {"name": name, "in": "header", "description": description, "schema": schema}


def path(name: str, schema: Schema, description: str) -> Schema:
    """A parameter of a path."""
    return {"name": name, "in": "path", "required": True, "description": description, "schema": schema}


def content(schema: Schema, kind: str = JSON) -> Schema:
    """The content of a body or an answer, by its media type."""
    return {"content": {kind: {"schema": schema}}}


_ESCAPES: Final = {ord(c): f"\\{c}" for c in r"\^$.*+?()[]{}|"}


def literal(text: str) -> str:
    """`text` as a pattern in the dialect that JSON Schema and Python share."""
    return text.translate(_ESCAPES)
