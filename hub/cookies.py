"""Reading one cookie out of the Cookie header, in one pass over its bytes."""

from __future__ import annotations

from collections.abc import Iterable


def cookie_value(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    """The value of the first cookie called `name`, without the quotes around it; None when there is none.

    Headers are split at semicolons and nothing else about them is judged: whatever other cookies look like, they hide
    none. The standard library's parser stops at the first cookie it does not understand, and takes quadratic time for a
    quoted value.
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
