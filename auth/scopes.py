"""Scopes: methods on stores. A scope is text such as ``GET /units/*``.

``*`` stands for every method, or for every store that is not a system store.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

WRITING: Final = ("POST", "PATCH", "PUT", "DELETE")
METHODS: Final = ("GET", *WRITING)

_SCOPE = re.compile(r"(?P<method>[A-Z]+|\*) +/?(?P<store>[A-Za-z][A-Za-z0-9_-]*|\*)(/\*)?\Z")


class BadScope(ValueError):
    """Text that is not a scope; the message shows the expected form."""


@dataclass(frozen=True, slots=True)
class Scopes:
    """A set of scopes, each (method, store). HEAD counts as GET."""

    pairs: frozenset[tuple[str, str]]

    def allow(self, method: str, store: str, *, system: bool = False) -> bool:
        """Return whether one of the scopes covers the method on the store.

        With `system`, `*` does not cover the store.
        """
        method = "GET" if method == "HEAD" else method
        stores = (store,) if system else (store, "*")
        return any((m, s) in self.pairs for m in (method, "*") for s in stores)


ALL: Final = Scopes(frozenset({("*", "*")}))


def parse_scope(text: str) -> tuple[str, str]:
    """Return (method, store) of one scope. Raises BadScope."""
    found = _SCOPE.match(text.strip())
    if not found or found["method"] not in (*METHODS, "*"):
        raise BadScope(f"{text!r} is not a scope: write a method and a store, such as 'GET /units/*' or '* /*'")
    return found["method"], found["store"]


def parse_scopes(texts: Iterable[str]) -> Scopes:
    return Scopes(frozenset(map(parse_scope, texts)))
