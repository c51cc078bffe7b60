"""The platform API as an OpenAPI 3.1 document, made from the operations that make the routes and from the stores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hub.dialects.platform.dialect import PlatformDialect


def openapi_document(dialect: PlatformDialect) -> dict[str, Any]:
    return {"openapi": "3.1.0", "info": {"title": "hub", "version": "1"}, "paths": {}}
