"""Reads one cookie from the Cookie header, in one pass over its bytes."""

from __future__ import annotations

from collections.abc import Iterable


def cookie_value(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    """Return the value of the first cookie called `name` without enclosing quotes, or None.

    The header is only split at semicolons: a malformed cookie cannot hide another one. The standard library's parser
    stops at the first cookie that it does not understand, and takes quadratic time for a quoted value.
    """
    for key, value in headers:
        if key != b"cookie" or name not in value:
            continue
        for pair in value.split(b";"):
            found, equals, text = pair.partition(b"=")
            if equals and found.strip() == name:
                return _unquoted(text.strip()).decode("latin-1")
    return None


def _unquoted(text: bytes) -> bytes:
    return text[1:-1] if len(text) > 1 and text[:1] == text[-1:] == b'"' else text
