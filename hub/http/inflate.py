"""Compressed request bodies: gzip, deflate and zstd. They are inflated in steps, within the limits of plain bodies."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Annotated, Final, Protocol

from hub.http import zstd
from hub.http.errors import BadRequest, UnsupportedCoding
from stores.bounds import Limit
from stores.threads import in_thread

STEP: Final = 262_144
"""Bytes that are inflated in one step."""
ON_THE_LOOP: Final = 4_096
"""Bytes. A compressed body up to this size is inflated on the event loop, up to `STEP` bytes; all else is inflated in
a thread."""
FRAMES_ON_THE_LOOP: Final = 4
"""Frames of zstd in such a body. Each takes 20 µs, whatever its size."""
_FRAME_MARKS: Final = (b"\x28\xb5\x2f\xfd", b"\x2a\x4d\x18")
"""Parts of the magic numbers of frames and skippable frames (RFC 8878, 3.1)."""
MANY_BYTES: Final = 4_194_304
"""Bytes. Larger bodies are joined in a thread."""
MAX_GZIP_MEMBERS: Annotated[int, Limit("request", "members of gzip", "400")] = 100
MAX_ZSTD_FRAMES: Annotated[int, Limit("request", "frames of zstd", "400")] = 32
"""An empty frame of nine bytes takes 20 µs. Parallel compressors make one for each few megabytes."""
MAX_ZSTD_WINDOW: Annotated[int, Limit("request", "bytes", "400")] = 8_388_608
"""The largest window that RFC 9659 lets a sender use."""

_ZSTD_OPTIONS: Final[Mapping[int, int]] = {zstd.DecompressionParameter.window_log_max: MAX_ZSTD_WINDOW.bit_length() - 1}
_SLICE: Final = 65_536


class Inflater(Protocol):
    def read(self, most: int, /) -> bytes:
        """Return at most `most` further bytes, or none at the end. Raises ValueError for broken or truncated data."""


class _Pieces:
    """Splits the compressed body into slices."""

    def __init__(self, body: bytes) -> None:
        self._input = memoryview(body)
        self._at = 0

    def next_slice(self) -> bytes:
        piece = bytes(self._input[self._at : self._at + _SLICE])
        self._at += len(piece)
        return piece

    def put_back(self, unused: bytes) -> bool:
        """Return unused bytes to the input, and return whether input is left."""
        self._at -= len(unused)
        return self._at < len(self._input)


class ZlibInflater:
    """Inflates gzip with one or more members, and deflate with or without its zlib wrapper."""

    def __init__(self, body: bytes, window: int) -> None:
        self._pieces = _Pieces(body)
        self._tail = b""
        self._window = window
        self._members = 1
        self._inflate = zlib.decompressobj(window)

    def read(self, most: int) -> bytes:
        while True:
            if self._inflate.eof and not self._next_member():
                return b""
            data = self._tail or self._pieces.next_slice()
            try:
                piece = self._inflate.decompress(data, most)
            except zlib.error as error:
                raise ValueError(str(error)) from None
            self._tail = self._inflate.unconsumed_tail
            if piece:
                return piece
            if not data and not self._inflate.eof:
                raise ValueError("it is cut short")

    def _next_member(self) -> bool:
        """Start the next member, if there is one; return whether there is."""
        self._tail = b""
        if not self._pieces.put_back(self._inflate.unused_data):
            return False
        self._members += 1
        if self._window != GZIP_WINDOW or self._members > MAX_GZIP_MEMBERS:
            raise ValueError("there is something behind its end")
        self._inflate = zlib.decompressobj(self._window)
        return True


class ZstdInflater:
    """Inflates zstd with one or more frames."""

    def __init__(self, body: bytes) -> None:
        self._pieces = _Pieces(body)
        self._frames = 1
        self._inflate = zstd.ZstdDecompressor(options=_ZSTD_OPTIONS)

    def read(self, most: int) -> bytes:
        while True:
            if self._inflate.eof and not self._next_frame():
                return b""
            needs_input = self._inflate.needs_input
            data = self._pieces.next_slice() if needs_input else b""
            try:
                piece = self._inflate.decompress(data, most)
            except zstd.ZstdError as error:
                raise ValueError(str(error)) from None
            if piece:
                return piece
            if needs_input and not data and not self._inflate.eof:
                raise ValueError("it is cut short")

    def _next_frame(self) -> bool:
        """Start the next frame, if there is one; return whether there is."""
        if not self._pieces.put_back(self._inflate.unused_data):
            return False
        self._frames += 1
        if self._frames > MAX_ZSTD_FRAMES:
            raise ValueError("it has too many frames")
        self._inflate = zstd.ZstdDecompressor(options=_ZSTD_OPTIONS)
        return True


GZIP_WINDOW: Final = 31


def _deflate(body: bytes) -> Inflater:
    wrapped = len(body) > 1 and body[0] & 15 == 8 and (body[0] << 8 | body[1]) % 31 == 0
    return ZlibInflater(body, 15 if wrapped else -15)


CODINGS: Final[Mapping[str, Callable[[bytes], Inflater]]] = {
    "gzip": lambda body: ZlibInflater(body, GZIP_WINDOW),
    "x-gzip": lambda body: ZlibInflater(body, GZIP_WINDOW),
    "deflate": _deflate,
    "zstd": ZstdInflater,
}
ACCEPTED: Final = "gzip, deflate, zstd"


def find_coding(header: str) -> str:
    """Return the coding named by a Content-Encoding header, or an empty string. Raises UnsupportedCoding for an unknown
    coding and for more than one."""
    names = [name for part in header.split(",") if (name := part.strip().lower()) not in ("", "identity")]
    if not names:
        return ""
    if len(names) > 1 or names[0] not in CODINGS:
        raise UnsupportedCoding("Content-Encoding", f"Takes one of {ACCEPTED}.", ACCEPTED)
    return names[0]


async def joined(pieces: list[bytes], size: int) -> bytes:
    """Return the joined pieces. Joining in a thread leaves the event loop free."""
    return await in_thread(b"".join, pieces) if size > MANY_BYTES else b"".join(pieces)


def is_quick(body: bytes, coding: str) -> bool:
    """Return whether inflating the first `STEP` bytes of the body takes little time."""
    if len(body) > ON_THE_LOOP:
        return False
    return coding != "zstd" or sum(map(body.count, _FRAME_MARKS)) <= FRAMES_ON_THE_LOOP


async def inflate(body: bytes, coding: str, check: Callable[[bytes], None], most: int, address: str = "") -> bytes:
    """Return the decoded body. `check` gets each piece and raises to stop, at `most` bytes at the latest. Raises
    BadRequest for a body that is not of this coding. `address`: see `in_thread`."""
    pieces: list[bytes] = []
    size, step, quick = 0, min(STEP, most), is_quick(body, coding)
    try:
        inflater = CODINGS[coding](body)
        while True:
            if quick and size < step:
                piece = inflater.read(step - size)
            else:  # two kilobytes of zstd may expand to 64 megabytes
                piece = await in_thread(inflater.read, step, address=address)
            if not piece:
                return await joined(pieces, size)
            pieces.append(piece)
            size += len(piece)
            check(piece)
    except ValueError as error:
        raise BadRequest("body", f"The body is not {coding}: {error}.") from None
