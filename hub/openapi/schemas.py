"""Schemas, parameters and references for building the OpenAPI part of a dialect."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from stores.fields.base import Schema as Schema
from stores.fields.numbers import INT64 as INT64
from stores.fields.settings import NULL as NULL

JSON: Final = "application/json"
MOMENT: Final[Schema] = {"type": "integer", "format": "int64", "minimum": 0, "description": "Unix milliseconds"}
TEXTS: Final[Schema] = {"type": "array", "items": {"type": "string"}}


def ref(name: str, kind: str = "schemas") -> Schema:
    """Return a reference to a component. `kind` is its group of components."""
    return {"$ref": f"#/components/{kind}/{name}"}


def object_of(properties: Schema, optional: Iterable[str] = ()) -> Schema:
    """Return the schema of an object with exactly these properties."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def query(name: str, schema: Schema, description: str, **more: Any) -> Schema:
    """Return a query parameter."""
    return {"name": name, "in": "query", "description": description, "schema": schema} | more


def header_parameter(name: str, schema: Schema, description: str) -> Schema:
    """Return a request header."""
    return {"name": name, "in": "header", "description": description, "schema": schema}


def path(name: str, schema: Schema, description: str) -> Schema:
    """Return a path parameter."""
    return {"name": name, "in": "path", "required": True, "description": description, "schema": schema}


def content(schema: Schema, kind: str = JSON) -> Schema:
    """Return the content of a body or an answer, by media type."""
    return {"content": {kind: {"schema": schema}}}


_ESCAPES: Final = {ord(c): f"\\{c}" for c in r"\^$.*+?()[]{}|"}


def literal(text: str) -> str:
    """Return `text` as a pattern in the syntax that JSON Schema and Python share."""
    return text.translate(_ESCAPES)
