"""Compressed bodies: what is inflated on the event loop, and in steps of which size."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from hub.http import inflate, zstd
from hub.http.body import beginning

SKIPPABLE = b"\x5a\x2a\x4d\x18\x00\x00\x00\x00"


@pytest.fixture
def in_threads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the steps that run in a thread."""
    steps: list[int] = []

    async def in_thread(read: Callable[[int], bytes], step: int, *, address: str) -> bytes:
        steps.append(step)
        return read(step)

    monkeypatch.setattr(inflate, "in_thread", in_thread)
    return steps


def ignore(piece: Any) -> None:
    """Take a piece of a body."""


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzip.compress(b"{}")),
        ("gzip", gzip.compress(b"{") + gzip.compress(b"}")),
        ("deflate", zlib.compress(b"{}")),
        ("zstd", zstd.compress(b"{}")),
        ("zstd", SKIPPABLE + zstd.compress(b"{") + zstd.compress(b"}")),
    ],
    ids=["gzip", "members of gzip", "deflate", "zstd", "frames of zstd"],
)
async def test_small_bodies_need_no_thread(in_threads: list[int], coding: str, body: bytes) -> None:
    assert await inflate.inflate(body, coding, ignore, 16_385) == b"{}"
    assert not in_threads


@pytest.mark.parametrize("frame", [zstd.compress(b""), SKIPPABLE, bytes.fromhex("28b52ffd0068010000")])
async def test_many_frames_are_inflated_in_a_thread(in_threads: list[int], frame: bytes) -> None:
    """A frame of nine bytes takes as long as one of kilobytes."""
    body = frame * inflate.FRAMES_ON_THE_LOOP + zstd.compress(b"{}")
    assert await inflate.inflate(body, "zstd", ignore, 16_385) == b"{}"
    assert in_threads


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
async def test_no_step_goes_far_beyond_the_limit(in_threads: list[int], coding: str) -> None:
    pack = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstd.compress}[coding]
    pieces: list[bytes] = []

    def check(piece: bytes) -> None:
        pieces.append(piece)
        if sum(map(len, pieces)) > 1_000:
            raise OverflowError

    with pytest.raises(OverflowError):
        await inflate.inflate(pack(b"x" * 1_000_000), coding, check, 1_001)
    assert sum(map(len, pieces)) == 1_001
    assert not in_threads


MARK = b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    "pieces",
    [
        [b"[1"],
        [b" \r\n\t", b" " * 70_000, b"[1"],
        [MARK + b"[1"],
        [*(bytes([byte]) for byte in MARK + b"[1")],
        [MARK, b" " * 10, b"[1"],
        [MARK + b"  [1"],
    ],
)
def test_the_beginning_of_a_body_is_found_in_any_pieces(pieces: list[bytes]) -> None:
    begun = b""
    for piece in (*pieces, b",2", b"]" * 70_000):
        begun = beginning(begun, piece)
    assert begun == b"[1,2"
