"""The unread bytes of answers have limits: in all, of one address and of one user."""

from __future__ import annotations

import pytest

from hub.http.errors import Overloaded
from hub.http.unread import MOST_UNREAD_ANSWER_BYTES, MOST_UNREAD_ANSWER_BYTES_EACH, UnreadAnswers

EACH = MOST_UNREAD_ANSWER_BYTES_EACH


def reached(unread: UnreadAnswers, address: str, user: str, size: int = 1) -> str:
    try:
        unread.check(address, user, size)
    except Overloaded as error:
        return error.limit_name
    return ""


@pytest.mark.parametrize(("address", "user"), [("192.0.2.1", ""), ("", "user"), ("192.0.2.1", "user")])
def test_an_address_and_a_user_have_a_limit(address: str, user: str) -> None:
    unread = UnreadAnswers()
    unread.grow(address, user, EACH - 10)
    assert reached(unread, address, user, 10) == ""
    assert reached(unread, address, user, 11) == "MOST_UNREAD_ANSWER_BYTES_EACH"
    assert reached(unread, "192.0.2.2", "other", EACH) == ""
    unread.shrink(address, user, EACH - 10)
    assert reached(unread, address, user, EACH) == ""


def test_a_user_has_it_over_all_addresses() -> None:
    unread = UnreadAnswers()
    for number in range(4):
        unread.grow(f"192.0.2.{number}", "user", EACH // 4)
    assert reached(unread, "192.0.2.9", "user") == "MOST_UNREAD_ANSWER_BYTES_EACH"
    assert reached(unread, "192.0.2.1", "other") == ""


def test_all_have_a_limit_together() -> None:
    unread = UnreadAnswers()
    for number in range(MOST_UNREAD_ANSWER_BYTES // EACH):
        unread.grow("", f"user {number}", EACH)
    assert reached(unread, "192.0.2.9", "another") == "MOST_UNREAD_ANSWER_BYTES"


def test_what_is_read_leaves_nothing() -> None:
    unread = UnreadAnswers()
    unread.grow("192.0.2.1", "user", 5)
    unread.shrink("192.0.2.1", "user", 5)
    assert (unread.bytes, dict(unread._of)) == (0, {})
