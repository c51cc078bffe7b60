"""The skeleton of an OpenAPI 3.1 document, to which each dialect adds its part."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hub.openapi.schemas import Schema


@dataclass(frozen=True, slots=True)
class DocumentPart:
    """A dialect's part of a document. `security` is the default for operations without their own; the other members are
    components by name, as in the specification."""

    paths: dict[str, Schema]
    security: list[Schema]
    security_schemes: dict[str, Schema]
    schemas: dict[str, Schema] = field(default_factory=dict)
    parameters: dict[str, Schema] = field(default_factory=dict)
    headers: dict[str, Schema] = field(default_factory=dict)
    responses: dict[str, Schema] = field(default_factory=dict)


def document_of(part: DocumentPart, title: str, version: str, description: str, prefix: str = "") -> dict[str, Any]:
    """Return the document of a hub that is published under `prefix`."""
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version, "description": description},
        "servers": [{"url": prefix + "/"}],
        "security": part.security,
        "paths": part.paths,
        "components": {
            "schemas": part.schemas,
            "parameters": part.parameters,
            "headers": part.headers,
            "responses": part.responses,
            "securitySchemes": part.security_schemes,
        },
    }
