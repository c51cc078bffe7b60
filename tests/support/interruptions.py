"""Reads of SQLite that are interrupted."""

from __future__ import annotations

import pytest

from stores.sqlite import readers


def interruptions(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Return a list that gets an item for each read that is interrupted on the loop."""
    seen: list[None] = []
    renew = readers.Readers._renew_if_outdated

    def interrupted(own: readers.Readers) -> None:
        seen.append(None)
        renew(own)

    monkeypatch.setattr(readers.Readers, "_renew_if_outdated", interrupted)
    return seen
