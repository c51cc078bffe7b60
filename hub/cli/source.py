"""A file to import: unpacked, decoded to UTF-8, and readable several times.

It recognises gzip, byte order marks, UTF-16 without a mark, and UTF-8; any other text is read as Windows-1252.
"""

from __future__ import annotations

import codecs
import gzip
import io
import os
import re
import shutil
import stat
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, cast

from hub.cli.output import Failure, Misuse

GZIP: Final = b"\x1f\x8b"
ZIP: Final = b"PK\x03\x04"
OLE: Final = b"\xd0\xcf\x11\xe0"
PIECE: Final = 1_048_576
SAMPLE: Final = 4_096
MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
NAMES: Final = {"utf-8-sig": "UTF-8", "cp1252": "Windows-1252", "utf-16-le": "UTF-16", "utf-16-be": "UTF-16"}


@dataclass(slots=True)
class Source:
    """A file to read. `encoding` is a Python codec; None for a binary file."""

    name: str
    raw: io.BufferedReader
    start: int | None
    packed: bool = False
    encoding: str | None = "utf-8"

    @property
    def again(self) -> bool:
        """Whether the file can be read again from its beginning."""
        return self.start is not None

    @property
    def size(self) -> int | None:
        """Size of a regular file in bytes. None for a pipe."""
        with suppress(OSError):
            found = os.fstat(self.raw.fileno())
            return found.st_size if stat.S_ISREG(found.st_mode) else None
        return None

    def position(self) -> int:
        """Return the number of bytes read from the file."""
        return self.raw.raw.tell()

    def open(self) -> io.BufferedReader:
        """Return the content; text as UTF-8 without a byte order mark. Reading it raises Failure for damaged data."""
        content = self.unpacked()
        if self.encoding is None:
            return content
        if self.encoding in ("utf-8", "utf-8-sig"):
            if content.peek(3).startswith(codecs.BOM_UTF8):
                content.read(len(codecs.BOM_UTF8))
            return content
        return buffered(Recoded(content, self.encoding, self.name))

    def unpacked(self) -> io.BufferedReader:
        if self.start is not None:
            self.raw.seek(self.start)
        return buffered(Unpacked(self.raw, self.name)) if self.packed else self.raw

    def recognise(self, encoding: str | None) -> None:
        """Detect packing and encoding, unless `encoding` is given. Raises Failure."""
        if self.raw.peek(len(ZIP)).startswith((ZIP, OLE)):
            raise Failure(f"{self.name}: not text but an Excel file or an archive; of Excel, .xlsx is understood")
        self.packed = self.raw.peek(len(GZIP)).startswith(GZIP)
        self.encoding = check_codec(encoding) if encoding else self.find_encoding()

    def find_encoding(self) -> str:
        sample = self.unpacked().peek(SAMPLE)[:SAMPLE] if self.again or not self.packed else b""
        for mark, codec in MARKS:
            if sample.startswith(mark):
                return codec
        if sample[1::2].count(0) > len(sample) // 4:
            return "utf-16-le"
        if sample[::2].count(0) > len(sample) // 4:
            return "utf-16-be"
        return detect_utf8(self.unpacked(), self.name) if self.again else "utf-8"


def buffered(raw: io.RawIOBase) -> io.BufferedReader:
    return io.BufferedReader(raw, 65_536)


def check_codec(name: str) -> str:
    """Return the codec of a text encoding. Raises Misuse."""
    try:
        found = codecs.lookup(name)
        "".encode(found.name)
    except LookupError:
        raise Misuse(f"--encoding {name}: no such encoding; known are utf-8, utf-16, windows-1252, ...") from None
    return found.name


def detect_utf8(content: io.BufferedReader, name: str) -> str:
    """Return utf-8 if most characters beyond ASCII are valid UTF-8 (invalid rows are refused later), or else cp1252.
    Raises Failure for text that is neither."""
    decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
    good = bad = 0
    foreign = False
    while piece := content.read(PIECE):
        text = decode(piece)
        if not text.isascii():
            wrong = len(re.findall("[\udc80-\udcff]", text))
            good += len(re.findall("[^\x00-\x7f]", text)) - wrong
            bad += wrong
            foreign = foreign or re.search(b"[\x81\x8d\x8f\x90\x9d]", piece) is not None
    bad += len(re.findall("[\udc80-\udcff]", decode(b"", True)))
    if not bad or good > bad:
        return "utf-8"
    if foreign:
        raise Failure(f"{name}: neither UTF-8 nor Windows-1252: name the encoding by --encoding")
    return "cp1252"


class Unpacked(io.RawIOBase):
    """The content of a gzip file."""

    def __init__(self, packed: BinaryIO, name: str) -> None:
        self.file = gzip.GzipFile(fileobj=packed, mode="rb")
        self.name = name

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            return self.file.readinto(buffer)
        except (EOFError, OSError, zlib.error) as error:
            raise Failure(f"{self.name}: the gzip file is damaged or ends too early: {error}") from error


class Recoded(io.RawIOBase):
    """Text of any encoding, recoded to UTF-8."""

    def __init__(self, file: BinaryIO, encoding: str, name: str) -> None:
        self.file = file
        self.decode: Callable[..., str] = codecs.getincrementaldecoder(encoding)("strict").decode
        self.name = name
        self.encoding = encoding
        self.left = b""
        self.ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self.left and not self.ended:
            piece = self.file.read(65_536)
            self.ended = not piece
            try:
                self.left = self.decode(piece, self.ended).encode()
            except UnicodeError as error:
                shown = NAMES.get(self.encoding, self.encoding)
                raise Failure(f"{self.name}: not {shown}: {error}; name its encoding by --encoding") from error
        count = min(len(self.left), len(buffer))
        buffer[:count] = self.left[:count]
        self.left = self.left[count:]
        return count


@contextmanager
def open_source(name: str, encoding: str | None, *, text: bool, again: bool) -> Iterator[Source]:
    """Open a file and detect its form. With `again` it can be read repeatedly: a pipe is copied to a temporary file."""
    with ExitStack() as stack:
        raw = cast(io.BufferedReader, sys.stdin.buffer) if name == "-" else stack.enter_context(open(name, "rb"))
        start = start_of(raw)
        if again and start is None:
            kept = stack.enter_context(tempfile.TemporaryFile())
            shutil.copyfileobj(raw, kept, PIECE)
            raw, start = cast(io.BufferedReader, kept), 0
            raw.seek(0)
        source = Source("standard input" if name == "-" else name, raw, start)
        if text:
            source.recognise(encoding)
        else:
            source.encoding = None
        yield source


def start_of(raw: io.BufferedReader) -> int | None:
    """Return where a file that can be read again begins; None for a pipe or device."""
    try:
        regular = stat.S_ISREG(os.fstat(raw.fileno()).st_mode)
        return raw.tell() if regular and raw.seekable() else None
    except (OSError, ValueError):
        return None
