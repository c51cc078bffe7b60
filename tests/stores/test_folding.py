"""Case-insensitive containment."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stores.folding import fold, fold_character, pattern

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6)
cased = st.text(st.sampled_from("aAkK\u212aßẞsſSİıiIσςΣéÉᾀᾈ😀𐐀𐐨.*[]\\^-$ \n"), max_size=6)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ABC", "abc"),
        ("É", "é"),
        ("Σ", "ς"),
        ("K", "k"),
        ("𐐀", "𐐨"),
        ("ſ", "S"),
        ("STRAẞE", "straße"),
        ("ᾈ", "ᾀ"),
        ("ﬅ", "ﬆ"),
    ],
)
def test_cases_of_one_character_fold_alike(one: str, other: str) -> None:
    """Characters of one case class have one representative."""
    assert fold(one) == fold(other)


@pytest.mark.parametrize(("one", "other"), [("ß", "ss"), ("é", "e"), ("ı", "i"), ("İ", "i"), ("ﬁ", "fi")])
def test_what_only_resembles_stays_apart(one: str, other: str) -> None:
    """Foldings to several characters do not apply, and accents are kept."""
    assert fold(one) != fold(other)


@given(texts | cased)
def test_folding_keeps_the_length(text: str) -> None:
    """Every character has one representative, which is its own representative."""
    assert len(fold(text)) == len(text)
    assert all(fold_character(fold_character(c)) == fold_character(c) for c in text)


@given(cased | texts, cased | texts)
def test_the_pattern_finds_what_folding_finds(needle: str, hay: str) -> None:
    """A database with only regular expressions gives the same answer as folding."""
    for value in (hay, hay + needle.swapcase()):
        found = re.search(pattern(needle), value) is not None
        assert found == (fold(needle) in fold(value))


def test_the_pattern_finds_every_cased_character() -> None:
    """Each character of the lower planes matches its folded form and those of its class."""
    for code in range(0x20000):
        character = chr(code)
        folded = fold_character(character)
        if folded != character:
            assert re.fullmatch(pattern(character), folded), hex(code)
            assert re.fullmatch(pattern(folded), character), hex(code)
