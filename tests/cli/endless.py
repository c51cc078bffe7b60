"""A file of any length that takes no memory."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any


class Endless(io.RawIOBase):
    """A file that repeats one row `rows` times and is never in memory as a whole."""

    def __init__(self, head: bytes, row: bytes, rows: int, tail: bytes) -> None:
        self.pieces = self.make(head, row, rows, tail)
        self.left = b""

    @staticmethod
    def make(head: bytes, row: bytes, rows: int, tail: bytes) -> Iterator[bytes]:
        if head:  # an empty piece would mean the end of the file
            yield head
        for _ in range(rows):
            yield row
        yield tail

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self.left or next(self.pieces, b"")
        count = min(len(piece), len(buffer))
        buffer[:count] = piece[:count]
        self.left = piece[count:]
        return count
