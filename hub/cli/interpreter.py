"""Python versions with known vulnerabilities, as published until `AS_OF`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Final

AS_OF: Final = date(2026, 7, 31)
"""Date of the last update of this table. Later vulnerabilities are missing."""


@dataclass(frozen=True, slots=True)
class Release:
    """A minor version: `ends` is the last day of its security fixes, `sound` its first patch without known
    vulnerabilities, and `holes` lists those of earlier patches."""

    ends: date
    sound: int
    holes: str


RELEASES: Final = {
    (3, 11): Release(
        date(2027, 10, 31), 14, "CVE-2025-8194 (tarfile) and, before 3.11.10, CVE-2024-7592 (http.cookies)"
    ),
    (3, 12): Release(
        date(2028, 10, 31), 12, "CVE-2025-8194 (tarfile) and, before 3.12.6, CVE-2024-7592 (http.cookies)"
    ),
    (3, 13): Release(date(2029, 10, 31), 13, "CVE-2025-13462 (tarfile)"),
    (3, 14): Release(date(2030, 10, 31), 4, "CVE-2025-13462 (tarfile)"),
}


def interpreter_advice(version: tuple[int, int, int], today: date) -> str:
    """Return the advice about an interpreter; empty if it has no known problem."""
    release = RELEASES.get(version[:2])
    if version[:2] < min(RELEASES):
        return "Install Python 3.11 or newer."
    if release is None:
        return ""  # newer than this table
    major, minor, patch = version
    if today > release.ends:
        return f"Python {major}.{minor} gets no security fixes since {release.ends}: install a newer one."
    if patch < release.sound:
        return f"Python {major}.{minor}.{patch} has {release.holes}: install {major}.{minor}.{release.sound} or newer."
    return ""
