"""Outcomes of commits as texts."""

from __future__ import annotations

import orjson
import pytest

from stores.protocol import Written, pack, unpack

TEXTS = [b"", b"{}", b'{"a":"],\\n["}', b'[["', b"],\n[", "é\n".encode() * 1_500_000]
"""Some look like what stands between entities, and one is copied in pieces that end within a character."""
OUTCOMES = {
    "of no write": [],
    "of a write without an entity": [Written(b"", 0, 0)],
    "of many writes": [Written(text, n, n + 1) for n, text in enumerate(TEXTS)],
    "of a procedure": [Written(pack([Written(text, 1) for text in TEXTS]), 0, 6)],
}


@pytest.mark.parametrize("outcome", OUTCOMES.values(), ids=OUTCOMES.keys())
def test_an_outcome_comes_back(outcome: list[Written]) -> None:
    assert unpack(pack(outcome)) == outcome


@pytest.mark.parametrize("outcome", OUTCOMES.values(), ids=OUTCOMES.keys())
def test_an_outcome_of_an_earlier_version_comes_back(outcome: list[Written]) -> None:
    """It is an array of JSON with one write per line."""
    lines = (orjson.dumps((each.entity.decode(), each.rev, each.count)) for each in outcome)
    assert unpack(b"[" + b",\n".join(lines) + b"]") == outcome
