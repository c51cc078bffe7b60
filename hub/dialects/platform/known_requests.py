"""List requests, parsed: dashboards send the same few again and again, and parsing one takes longer than finding an
entity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final

from auth.view import View
from hub.dialects.platform.parameters import ListRequest
from hub.services.registry import StoreRegistry
from stores.bounds import Limit

MOST_KNOWN_REQUESTS: Annotated[int, Limit("process", "parsed list requests", "the oldest goes")] = 1_000
LONGEST: Final = 500
"""Bytes of a query string that is worth keeping."""


class KnownRequests:
    """Parsed requests by View and query string. A View belongs to one definition and to the rights of one principal;
    after a change of either there is another View. All go when definitions are read again, so that none that has been
    replaced stays in memory."""

    def __init__(self, registry: StoreRegistry) -> None:
        self._registry = registry
        self._generation = registry.generation
        self._known: dict[tuple[int, bytes], tuple[View, ListRequest]] = {}

    def find(self, view: View, text: bytes, parse: Callable[[], ListRequest]) -> ListRequest:
        """Return the request with this query string: a known one, or what `parse` returns."""
        if self._generation != self._registry.generation:
            self._known.clear()
            self._generation = self._registry.generation
        key = id(view), text  # by identity: comparing definitions takes longer than parsing
        known = self._known.get(key)
        if known is not None:
            return known[1]  # it holds its View, so no other one has got that id
        request = parse()
        if len(text) <= LONGEST and is_lasting(request):
            if len(self._known) >= MOST_KNOWN_REQUESTS:
                del self._known[next(iter(self._known))]
            self._known[key] = view, request
        return request


def is_lasting(request: ListRequest) -> bool:
    """Return whether a request may come again, and is small: positions and cursors come once, and a search is as large
    as the store has searchable fields."""
    return request.query.after is None and request.since is None and not request.searched
