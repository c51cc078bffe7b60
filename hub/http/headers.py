"""The headers of a request, indexed."""

from __future__ import annotations

from typing import Final

from starlette.types import Scope

FIRST_HEADERS: Final = "hub.headers"
"""Scope key of the index."""


def first_headers(scope: Scope) -> dict[bytes, bytes]:
    """Return the first header of each name (lower case). Each request is indexed once: a dozen parts of the hub look
    for a header, most of them in vain."""
    found: dict[bytes, bytes] | None = scope.get(FIRST_HEADERS)
    if found is None:
        found = scope[FIRST_HEADERS] = dict(reversed(scope["headers"]))
    return found
