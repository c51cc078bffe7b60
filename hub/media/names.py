"""Names and media types of files, as far as a caller's words can be trusted."""

from __future__ import annotations

import mimetypes
import re
import unicodedata
from collections.abc import Collection
from pathlib import PurePosixPath
from typing import Final

from stores.fields.media import MEDIA_TYPE, NAME_LENGTH, TYPE_LENGTH

UNKNOWN_TYPE: Final = "application/octet-stream"
HEAD_BYTES: Final = 512
"""Bytes of a file's beginning by which its type is recognised."""

_UNNAMED: Final = "file"
_LONGEST_SUFFIX: Final = 20
_NO_CHARACTERS: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Categories of Unicode that have no place in a name: controls, marks of direction, halves of pairs, line ends."""
_FORBIDDEN: Final = re.compile(r'[<>:"|?*]')
_TYPE: Final = re.compile(MEDIA_TYPE)

_SIGNATURES: Final[tuple[tuple[str, int, bytes], ...]] = (
    ("image/jpeg", 0, b"\xff\xd8\xff"),
    ("image/png", 0, b"\x89PNG\r\n\x1a\n"),
    ("image/gif", 0, b"GIF8"),
    ("image/webp", 8, b"WEBP"),
    ("application/pdf", 0, b"%PDF-"),
)
"""Media types that are told by bytes at an offset. A file that claims one of them and lacks the bytes has none."""
_SIGNED: Final = frozenset(kind for kind, _, _ in _SIGNATURES)


def safe_name(text: str | None) -> str:
    """Return the last part of a path as a name that any system takes: at most NAME_LENGTH characters, without controls
    and separators. The end of a name that is too long stays if it is a suffix."""
    last = (text or "").replace("\\", "/").rsplit("/", 1)[-1]
    plain = unicodedata.normalize("NFC", "".join(c for c in last if unicodedata.category(c) not in _NO_CHARACTERS))
    name = " ".join(_FORBIDDEN.sub("_", plain).split()).strip(". ")
    suffix = PurePosixPath(name).suffix[:_LONGEST_SUFFIX] if len(name) > NAME_LENGTH else ""
    return (name[: NAME_LENGTH - len(suffix)] + suffix if suffix else name[:NAME_LENGTH]).strip(". ") or _UNNAMED


def renamed(name: str, kind: str) -> str:
    """Return the name with the suffix of a media type."""
    suffix = "." + kind.partition("/")[2]
    return PurePosixPath(name).stem[: NAME_LENGTH - len(suffix)] + suffix


def type_of(head: bytes, name: str, declared: str | None) -> str:
    """Return the media type of a file: by its first bytes if they tell, otherwise as declared, otherwise by its
    name."""
    for kind, offset, signature in _SIGNATURES:
        if head[offset : offset + len(signature)] == signature and (offset == 0 or head.startswith(b"RIFF")):
            return kind
    said = (declared or "").partition(";")[0].strip().lower()
    if said == UNKNOWN_TYPE or len(said) > TYPE_LENGTH or "*" in said or not _TYPE.fullmatch(said):
        said = mimetypes.guess_type(name)[0] or UNKNOWN_TYPE
    return UNKNOWN_TYPE if said in _SIGNED else said


def is_allowed(kind: str, types: Collection[str]) -> bool:
    """Return whether a media type is one of `types`, which may be empty: then every one is."""
    return not types or kind in types or f"{kind.partition('/')[0]}/*" in types
