"""Case-insensitive containment with the same result on both engines and in the matcher.

Every database folds case in its own way. Here two characters are equal if they have the same simple case folding
(Unicode 15.1 CaseFolding.txt, statuses C and S); foldings to several characters (ß → ss) are left out.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final

_SINCE_15_1: Final = {"\u1fd3": "\u0390", "\u1fe3": "\u03b0", "\ufb05": "\ufb06"}
"""Simple foldings that are no lower case: pairs of one character with two codes."""
_LAST_CASED = 0x1FFFF  # planes 0 and 1: no script in higher planes has letter case


def fold(text: str) -> str:
    """Return the text with every character replaced by the representative of its case class."""
    folded = text.casefold()
    # Every character folds to at least one: if the length is unchanged, each has folded to exactly one.
    if len(folded) == len(text):
        return folded
    return _unexpanded().sub(lambda run: run[0].casefold(), text).translate(_simple())


@cache
def _expanded() -> str:
    """Return the characters that fold to several."""
    return "".join(c for c in map(chr, range(_LAST_CASED + 1)) if len(c.casefold()) > 1)


@cache
def _unexpanded() -> re.Pattern[str]:
    """Return a pattern for runs of characters that fold to one character each."""
    return re.compile(f"[^{re.escape(_expanded())}]+")


@cache
def _simple() -> dict[int, str]:
    """Return the simple foldings of the others: that of ẞ is ß. Nearly all of them are the simple lower case."""
    return {ord(c): fold_character(c) for c in _expanded()}


def fold_character(character: str) -> str:
    if character in _SINCE_15_1:
        return _SINCE_15_1[character]
    for folded in (character.casefold(), character.lower()):
        if len(folded) == 1:
            return folded
    return character


@cache
def _classes() -> dict[str, str]:
    classes: dict[str, str] = {}
    for code in range(_LAST_CASED + 1):
        character = chr(code)
        folded = fold_character(character)
        if folded != character:
            classes[folded] = classes.get(folded, folded) + character
    return classes


def pattern(text: str) -> str:
    """Return a regular expression, valid in PCRE and Python, for `fold(text) in fold(value)`."""
    classes = _classes()
    return "".join(f"[{classes[c]}]" if c in classes else re.escape(c) for c in fold(text))
