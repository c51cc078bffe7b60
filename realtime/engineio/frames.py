"""WebSocket frames as a server sends them: whole, unmasked, not compressed. Built once, written to many clients.

Source: RFC 6455, section 5.2.
"""

from __future__ import annotations

from typing import Final

FIN_TEXT: Final = 0x81
FIN_BINARY: Final = 0x82
SHORT: Final = 125
TWO_OCTETS: Final = 126
EIGHT_OCTETS: Final = 127


def build_text_frame(text: str) -> bytes:
    """Return the frame of an Engine.IO packet, such as `42["change",{…}]`. It is the same for both versions."""
    return _frame(FIN_TEXT, text.encode())


def build_binary_frame(octets: bytes) -> bytes:
    return _frame(FIN_BINARY, octets)


def build_frame(data: str | bytes) -> bytes:
    return _frame(FIN_TEXT, data.encode()) if isinstance(data, str) else _frame(FIN_BINARY, data)


def _frame(first: int, payload: bytes) -> bytes:
    length = len(payload)
    if length <= SHORT:
        return bytes((first, length)) + payload
    if length <= 0xFFFF:
        return bytes((first, TWO_OCTETS)) + length.to_bytes(2, "big") + payload
    return bytes((first, EIGHT_OCTETS)) + length.to_bytes(8, "big") + payload
