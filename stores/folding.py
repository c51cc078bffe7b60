"""Case-insensitive containment with the same result on both engines and in the matcher.

Every database folds case in its own way. Here two characters are equal if they have the same one-character case folding
(Unicode CaseFolding.txt, status C); foldings to several characters (ß → ss) are left out.
"""

from __future__ import annotations

import re
from functools import cache

_LAST_CASED = 0x1FFFF  # planes 0 and 1: no script in higher planes has letter case


def fold(text: str) -> str:
    """Return the text with every character replaced by the representative of its case class."""
    lowered = text.casefold()
    # Every character folds to at least one: if the length is unchanged, each has folded to exactly one.
    return lowered if len(lowered) == len(text) else _unexpanded().sub(_folded, text)


def _folded(run: re.Match[str]) -> str:
    return run[0].casefold()


@cache
def _unexpanded() -> re.Pattern[str]:
    """Return a pattern for runs of characters that fold to one character each."""
    expanded = "".join(c for c in map(chr, range(_LAST_CASED + 1)) if len(c.casefold()) > 1)
    return re.compile(f"[^{re.escape(expanded)}]+")


def fold_character(character: str) -> str:
    folded = character.casefold()
    return folded if len(folded) == 1 else character


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
