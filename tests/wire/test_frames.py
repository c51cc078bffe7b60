"""Frames built by the hub equal those of a WebSocket library."""

from __future__ import annotations

import pytest
from websockets.frames import Frame, Opcode

from realtime.engineio.frames import build_binary_frame, build_frame, build_text_frame


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65_535, 65_536, 70_000])
def test_frames_have_the_right_length_in_the_right_form(length: int) -> None:
    text, octets = "x" * length, bytes(length)
    assert build_text_frame(text) == Frame(Opcode.TEXT, text.encode()).serialize(mask=False)
    assert build_binary_frame(octets) == Frame(Opcode.BINARY, octets).serialize(mask=False)


def test_text_is_utf8() -> None:
    assert build_frame("€") == b"\x81\x03\xe2\x82\xac"
    assert build_frame(b"\xe2") == b"\x82\x01\xe2"
