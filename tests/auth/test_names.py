"""Canonical logins and passwords: they are those of the library for PRECIS, in linear time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from precis_i18n import get_profile

from auth.names import LONGEST_LOGIN, LONGEST_PASSWORD, BadName, canonical_login, canonical_password, login_key
from hub.services.logins import spellings
from tests.support.steps import counted_steps

JUDGED_BY_NEIGHBORS = "\u00b7\u0375\u05f3\u05f4\u200c\u200d"
NEIGHBORS = "l\u03b1\u05d0\u0628\u092c\u094d\u064b"
JUDGED_BY_THE_TEXT = "\u30fb\u0660\u0661\u06f0\u06f3"
TEXTS = st.text(JUDGED_BY_NEIGHBORS + NEIGHBORS + JUDGED_BY_THE_TEXT + "\u30a2a0A", max_size=8) | st.text(max_size=8)

KATAKANA = "\u30fb" * (LONGEST_PASSWORD - 1) + "\u30a2"
"""Each middle dot is valid by the last character alone."""

PERSIAN = "\u06f0" * LONGEST_PASSWORD


def form(prepare: Callable[[str], str], text: str) -> str | None:
    try:
        return prepare(text)
    except (BadName, UnicodeEncodeError):
        return None


@given(TEXTS)
def test_passwords_have_the_form_of_the_library(text: str) -> None:
    assert form(canonical_password, text) == form(get_profile("OpaqueString").enforce, text)


@given(TEXTS.filter(lambda text: " " not in text))
def test_logins_have_the_form_of_the_library(text: str) -> None:
    assert form(canonical_login, text) == form(get_profile("UsernameCasePreserved").enforce, text)
    assert form(login_key, text) == form(get_profile("UsernameCaseMapped").enforce, text)


@pytest.mark.parametrize("text", [KATAKANA, PERSIAN])
def test_a_text_four_times_as_long_takes_four_times_the_steps(text: str) -> None:
    """A login and a password are prepared before anything is known about their sender."""
    for prepare, longest in ((canonical_password, LONGEST_PASSWORD), (canonical_login, LONGEST_LOGIN)):
        prepare(text[-4:])  # the tables are made
        with counted_steps() as short:
            prepare(text[-longest // 4 :])
        with counted_steps() as long:
            prepare(text[-longest:])
        assert long.count < 5 * short.count


def test_what_is_too_long_is_not_prepared() -> None:
    login = "A" * (LONGEST_LOGIN + 1)
    assert spellings(login) == (login, login)
    for prepare, longest in ((canonical_password, LONGEST_PASSWORD), (canonical_login, LONGEST_LOGIN)):
        assert len(prepare("a" * longest)) == longest
        with pytest.raises(BadName, match=str(longest)):
            prepare("a" * (longest + 1))


def test_the_character_at_fault_is_named_in_each_word() -> None:
    with pytest.raises(BadName, match=r"\\u2665 is not allowed"):
        canonical_login("ada \u2665")
