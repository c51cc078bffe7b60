"""Bounded parsing of multipart and urlencoded forms: files are written to disk as they arrive, never held whole."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Final

from starlette.datastructures import FormData, Headers, MutableHeaders
from starlette.formparsers import FormParser, MultiPartException, MultiPartParser

from hub.dialects.base import CallerChanged, Resolve, has_changed
from hub.http.body import BodyLimit
from hub.http.call import Call
from hub.http.errors import BadRequest, BodyTooLarge, TooSlow
from stores.bounds import Limit
from stores.errors import StorageFull

MULTIPART: Final = "multipart/form-data"
URLENCODED: Final = "application/x-www-form-urlencoded"

_CHARSET: Final = re.compile(r";\s*charset\s*=(?!\s*\"?utf-?8\"?\s*(?:;|$))", re.IGNORECASE)
"""A charset other than UTF-8. Some of Python's codecs take quadratic time."""
_ANY_CHARSET: Final = re.compile(r";\s*charset\s*=\s*(\"[^\"]*\"|[^;]*)", re.IGNORECASE)
_KEPT: Final = "hub.form"
"""Scope key for the form of a call that is authorised again."""


SPOOLED_BYTES: Final = 65_536
"""Bytes of each file of a form that stay in memory until there are more."""
MOST_PART_OPTIONS: Final[Annotated[int, Limit("part of a form", "options", "400")]] = 100
LONGEST_FORM_TYPE: Final[Annotated[int, Limit("form", "characters of Content-Type", "400")]] = 256


class InvalidForm(BadRequest):
    """A body that is no form, or has too many parts. `reason` says what is wrong with it."""

    def __init__(self, reason: str) -> None:
        super().__init__("body", f"The form is not understood: {reason}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class FormLimits:
    """`body`: size of the whole form. `fields`, `files`: their number. `field_bytes`: size of a field that is no
    file."""

    body: BodyLimit
    fields: int = 100
    files: int = 10
    field_bytes: int = 65_536


class FilesToDisk(MultiPartParser):
    """A parser of multipart forms. `release` is called with the number of bytes that have gone to the disk, which are
    those of files that have more than `SPOOLED_BYTES`."""

    spool_max_size = SPOOLED_BYTES

    def __init__(
        self,
        headers: Headers,
        pieces: AsyncGenerator[bytes, None],
        limits: FormLimits,
        release: Callable[[int], None],
    ) -> None:
        super().__init__(
            headers,
            self._released(pieces),
            max_files=limits.files,
            max_fields=limits.fields,
            max_part_size=limits.field_bytes,
        )
        self._on_disk = release
        self._in_memory = self._written = 0

    def on_headers_finished(self) -> None:
        # The library takes 3 ms for four thousand options.
        if (self._current_part.content_disposition or b"").count(b";") > MOST_PART_OPTIONS:
            raise MultiPartException("A part has too many options (MOST_PART_OPTIONS).")
        super().on_headers_finished()
        self._in_memory = 0

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        super().on_part_data(data, start, end)
        if self._current_part.file is not None:
            self._in_memory += end - start
            if self._in_memory > SPOOLED_BYTES:
                self._written += self._in_memory
                self._in_memory = 0

    async def _released(self, pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """Yield the pieces. The parser has written the files in one when it asks for the next one."""
        async for piece in pieces:
            yield piece
            self._on_disk(self._written)
            self._written = 0


def media_type(call: Call) -> str:
    """Return the media type of the body in lower case, without parameters; empty if the call names none."""
    return (call.header(b"content-type") or "").partition(";")[0].strip().lower()


@asynccontextmanager
async def read_form(
    call: Call,
    limits: FormLimits,
    seconds: float,
    resolve: Resolve,
    *,
    timeout_name: str = "body_timeout",
    charset: str = "",
) -> AsyncIterator[FormData]:
    """Return the form of the call, which must arrive within `seconds`, the value of the setting `timeout_name`. Its
    files are closed at the end. `charset` is that of the form, whatever its header says; empty: the header must not
    name another than UTF-8.

    Raises InvalidForm, BadRequest for another charset or media type, TooSlow, StorageFull, CallerChanged,
    Unauthenticated, and the errors of `Call.pieces`.
    """
    form: FormData | None = call.scope.pop(_KEPT, None)
    if form is None:
        form = await _parse(call, limits, seconds, timeout_name, charset)
    keep = False
    try:
        if await has_changed(call, resolve):
            call.scope[_KEPT] = form
            keep = True
            raise CallerChanged
        yield form
    finally:
        if not keep:
            await form.close()


async def _parse(call: Call, limits: FormLimits, seconds: float, timeout_name: str, charset: str) -> FormData:
    headers = MutableHeaders(raw=[*call.scope["headers"]])
    if len(headers.get("content-type", "")) > LONGEST_FORM_TYPE:
        text = f"Must not be longer than {LONGEST_FORM_TYPE} characters (LONGEST_FORM_TYPE)."
        raise BadRequest("Content-Type", text).at("LONGEST_FORM_TYPE")
    if _CHARSET.search(headers.get("content-type", "")):
        if not charset:
            raise BadRequest("Content-Type", "A form must be UTF-8.")
        headers["content-type"] = f"{_ANY_CHARSET.sub('', headers['content-type'])}; charset={charset}"
    pieces = call.pieces(limits.body)
    parser: MultiPartParser | FormParser
    match media_type(call):
        case "multipart/form-data":
            parser = FilesToDisk(headers, pieces, limits, call.release)
        case "application/x-www-form-urlencoded":
            parser = FormParser(headers, pieces, max_fields=limits.fields, max_part_size=limits.field_bytes)
        case _:
            raise BadRequest("body", f"The body must be a form ({MULTIPART} or {URLENCODED}).")
    try:
        async with asyncio.timeout(seconds):
            return await parser.parse()
    except TimeoutError:
        raise TooSlow("the form did not arrive in time").at(timeout_name) from None
    except OSError as error:  # of the temporary file of an upload
        raise StorageFull(f"there is no room for the files of a form: {error.strerror}") from error
    except (BodyTooLarge, MultiPartException) as error:
        await call.discard()
        if isinstance(error, BodyTooLarge):
            raise
        raise InvalidForm(error.message) from None
