"""docs/limits.md lists every limit, as the program declares them."""

from __future__ import annotations

from typing import Final

import pytest

from hub import limits
from hub.settings import Settings
from stores.bounds import Limit
from tests.docs.pages import page

NO_LIMITS: Final = frozenset({"port", "session_hours", "access_token_hours", "login_window", "password_length"}) | {
    "idempotency_hours", "live_ping_interval", "live_position_every", "reader_threads", "sweep_interval",
}  # fmt: skip
"""Settings that are numbers and bound nothing that a client can feed."""


def test_the_page_is_what_the_program_declares() -> None:
    assert page("limits.md") == limits.page(), "python -m hub.limits > docs/limits.md"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_that_is_a_number_is_a_limit_or_named_as_none(name: str) -> None:
    field = Settings.model_fields[name]
    is_number = isinstance(field.default, int) and not isinstance(field.default, bool)
    is_limit = any(isinstance(note, Limit) for note in field.metadata)
    assert is_limit == (is_number and name not in NO_LIMITS)
