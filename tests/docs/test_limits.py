"""docs/limits.md lists every limit that the program declares."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import pytest

from hub import limits
from hub.settings import Settings
from stores.bounds import Limit
from tests.docs.pages import ROOT, page

NO_LIMITS: Final = frozenset({"port", "session_hours", "access_token_hours", "login_window", "password_length"}) | {
    "password_memory_kib", "register_code_seconds", "idempotency_hours", "live_ping_interval", "live_position_every",
    "sweep_interval",
}  # fmt: skip
"""Numeric settings that do not limit any input of clients."""


INTERNAL: Final = {
    "LARGEST_AT_HAND": "chooses a way to hand a body over, whatever its size",
    "LARGEST_BATCH": "commits in one transaction; further ones follow",
    "LARGEST_PIECE": "bytes that are parsed at once; further ones follow",
    "MOST_IDS": "chooses a query plan",
    "MOST_KEPT_VALUES": "values of a filter that is worth keeping compiled",
    "MOST_TRIED_AT_ONCE": "changes that are looked at on the event loop; further ones in a thread",
    "MOST_SKIPPED": "users without a comparable login that a start looks at",
}
"""Constants with names like limits that do not limit any input of clients, with the reason."""


def constants() -> Iterator[tuple[str, str]]:
    """Yield the file and name of every constant with a name like a limit, except those of the command line."""
    for path in sorted(p for package in ("stores", "auth", "realtime", "hub") for p in (ROOT / package).rglob("*.py")):
        if "cli" not in path.parts:
            for name in re.findall(r"^((?:MOST|LARGEST|MAX)_[A-Z_]+)\b *[:=]", path.read_text(), re.MULTILINE):
                yield str(path.relative_to(ROOT)), name


def test_every_constant_named_like_a_limit_is_one_or_said_to_be_internal() -> None:
    listed = {declared.name for declared in limits.limits_of_constants()}
    unknown = [place for place in constants() if place[1] not in listed and place[1] not in INTERNAL]
    assert not unknown


def test_the_page_is_what_the_program_declares() -> None:
    assert page("limits.md") == limits.page(), "python -m hub.limits > docs/limits.md"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_that_is_a_number_is_a_limit_or_named_as_none(name: str) -> None:
    field = Settings.model_fields[name]
    is_number = isinstance(field.default, int) and not isinstance(field.default, bool)
    is_limit = any(isinstance(note, Limit) for note in field.metadata)
    assert is_limit == (is_number and name not in NO_LIMITS)
