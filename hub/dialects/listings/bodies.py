"""Request bodies, read as Django REST framework reads them: JSON, urlencoded and multipart, in the charset that the
Content-Type names.

Sources: `rest_framework/parsers.py`, `negotiation.py` and `request.py`, `django/http/request.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from encodings.aliases import aliases
from typing import Annotated, Any, Final, NoReturn
from urllib.parse import parse_qsl

from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile

from hub.dialects.base import read_body
from hub.dialects.forms import MULTIPART, URLENCODED, FormLimits, InvalidForm, media_type, read_form
from hub.dialects.listings.context import ListingsContext
from hub.dialects.listings.errors import InvalidFields, Malformed, UnsupportedMediaType
from hub.dialects.listings.fields import too_many_bytes
from hub.dialects.listings.forms import Form
from hub.http.body import SMALL_BODY, BodyLimit
from hub.http.call import Call
from hub.http.errors import BodyTooLarge
from hub.media.jobs import MOST_IMAGE_BYTES
from stores.bounds import Limit
from stores.threads import in_thread

MOST_FIELDS: Final[Annotated[int, Limit("request", "fields of a form", "400")]] = 1_000
MOST_FIELD_BYTES: Final[Annotated[int, Limit("request", "bytes of a form's field", "400")]] = 524_288
MOST_FILES: Final[Annotated[int, Limit("request", "files of a form", "400")]] = 10
MOST_VALUES: Final[Annotated[int, Limit("request", "values of a listing in JSON", "400")]] = 10_000
DEEPEST: Final[Annotated[int, Limit("request", "levels of a listing in JSON", "400")]] = 100
LONGEST_MEDIA_TYPE: Final[Annotated[int, Limit("request", "characters of Content-Type", "415")]] = 256

JSON: Final = "application/json"
MEDIA_TYPES: Final = (JSON, URLENCODED, MULTIPART)
"""In the order in which a Content-Type with an asterisk is compared with them."""

_CHARSETS: Final = frozenset(
    {"ascii", "utf_8", "utf_8_sig", "utf_16", "utf_16_le", "utf_16_be", "utf_32", "utf_32_le", "utf_32_be", "latin_1"}
    | {"iso8859_1", *(f"iso8859_{number}" for number in (2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14, 15, 16))}
    | {f"cp{number}" for number in range(1250, 1259)}
    | {"koi8_r", "koi8_u", "gb2312", "gbk", "gb18030", "big5", "shift_jis", "euc_jp", "euc_kr"}
)
"""Those that take linear time. Others of Python's are refused: some take quadratic time, some inflate a body."""
_CODECS: Final = frozenset({*aliases.values(), "idna", "punycode", "raw_unicode_escape", "unicode_escape", "undefined"})
_BOUNDARY: Final = re.compile(r"[ -~]{0,200}[!-~]")
_OPTIONS: Final = (b"charset", b"boundary")


@dataclass(frozen=True, slots=True)
class ContentType:
    """The Content-Type of a call: its text, the media type of its parser (None if there is none), the charset, and the
    boundary of a multipart body."""

    text: str
    parser: str | None
    charset: str
    boundary: str | None


@asynccontextmanager
async def received(
    context: ListingsContext, call: Call, *, image: bool = False, most_bytes: int | None = None
) -> AsyncIterator[Any]:
    """Return the value of the body: what its JSON is, or a Form. Files are closed at the end of the block. With
    `image`, a multipart body may be as large as an image. `most_bytes`: less than HUB_MAX_BODY_BYTES.

    Raises Malformed, UnsupportedMediaType, InvalidFields for too large an image, and the errors of `read_body`.
    """
    kind = content_type_of(call)
    most = min(most_bytes or context.settings.max_body_bytes, context.settings.max_body_bytes)
    if _is_empty(call):
        yield Form(()) if _is_form(kind.text) else {}
    elif kind.parser is None:
        raise UnsupportedMediaType(kind.text)
    elif kind.parser == MULTIPART:
        async with _multipart(context, call, kind, most, image=image) as form:
            yield form
    else:
        limit = BodyLimit(most)
        raw = await read_body(call, limit, context.settings.body_timeout, context.resolve)
        yield await _parsed(raw, kind)


def content_type_of(call: Call) -> ContentType:
    text = (call.header(b"content-type") or "").strip()
    if len(text) > LONGEST_MEDIA_TYPE:
        return ContentType(text, None, "", None)
    _, options = parse_options_header(text)
    charset, boundary = (options[name].decode("latin-1") if name in options else None for name in _OPTIONS)
    sent = media_type(call)
    parser = next((each for each in MEDIA_TYPES if _matches(each, sent)), None)
    return ContentType(text, parser, charset or "utf-8", boundary)


def _matches(offered: str, sent: str) -> bool:
    """Return whether a media type is the one that was sent, which may have asterisks."""
    for ours, theirs in zip(offered.split("/"), (*sent.split("/", 1), "")[:2], strict=True):
        if theirs not in (ours, "*"):
            return False
    return True


def _is_empty(call: Call) -> bool:
    """Return whether the head says that there is no body. Its Content-Type does not matter then."""
    length = call.header(b"content-length")
    return not int(length[:20]) if length and length.isdigit() else call.header(b"transfer-encoding") is None


def _is_form(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() in (URLENCODED, MULTIPART)


# JSON and urlencoded forms.


async def _parsed(raw: bytes, kind: ContentType) -> Any:
    codec = codec_of(kind.charset)
    parse = parse_json if kind.parser == JSON else parse_urlencoded
    return parse(raw, codec) if len(raw) <= SMALL_BODY else await in_thread(parse, raw, codec)


def codec_of(charset: str) -> str:
    """Return the codec of a charset. One that Python does not know means UTF-8. Raises Malformed."""
    name = re.sub(r"[^a-z0-9.]+", "_", charset.lower()).strip("_")
    codec = aliases.get(name, aliases.get(name.replace(".", "_"), name))
    if codec in _CHARSETS:
        return codec
    if codec in _CODECS:
        raise Malformed(f'Unsupported charset "{charset}" in request Content-Type header.')
    return "utf_8"


def parse_json(raw: bytes, codec: str) -> Any:
    """Return the JSON value of a body; an empty one has no members. Raises Malformed with the text that Python's
    parser has for the mistake."""
    if not raw:
        return {}
    try:
        value = json.loads(raw.decode(codec), parse_constant=_refuse_constant)
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise Malformed(f"JSON parse error - {error}") from None
    _check_size(value)
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"Out of range float values are not JSON compliant: {name!r}")


def _check_size(value: Any) -> None:
    """Raise Malformed for too many values, or too many levels of them."""
    level: list[Any] = [value]
    count, depth = 0, 0
    while level:
        count, depth = count + len(level), depth + 1
        if count > MOST_VALUES:
            raise Malformed(f"JSON parse error - More than {MOST_VALUES} values (MOST_VALUES)").at("MOST_VALUES")
        if depth > DEEPEST:
            raise _too_deep()
        level = [inner for each in level for inner in _inside(each)]


def _too_deep() -> Malformed:
    return Malformed(f"JSON parse error - More than {DEEPEST} levels (DEEPEST)").at("DEEPEST")


def _inside(value: Any) -> Sequence[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else ()


def parse_urlencoded(raw: bytes, codec: str) -> Form:
    """Return the form of a body. Bytes that are not in its charset are replaced. Raises Malformed."""
    try:
        text = raw.decode(codec)
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    try:
        return Form(
            parse_qsl(text, keep_blank_values=True, encoding=codec, errors="replace", max_num_fields=MOST_FIELDS)
        )
    except ValueError:
        text = f"Form parse error - More than {MOST_FIELDS} fields (MOST_FIELDS)"
        raise Malformed(text).at("MOST_FIELDS") from None


# Multipart.


@asynccontextmanager
async def _multipart(
    context: ListingsContext, call: Call, kind: ContentType, most: int, *, image: bool
) -> AsyncIterator[Form]:
    if kind.boundary is None or not _BOUNDARY.fullmatch(kind.boundary):
        raise Malformed(f"Multipart form parse error - Invalid boundary in multipart: {kind.boundary}")
    if codec_of(kind.charset) != "utf_8":
        raise Malformed(f'Unsupported charset "{kind.charset}" in request Content-Type header.')
    body = MOST_IMAGE_BYTES + MOST_FIELD_BYTES if image else most
    limits = FormLimits(BodyLimit(body), MOST_FIELDS, MOST_FILES, MOST_FIELD_BYTES)
    name = "media_upload_timeout" if image else "body_timeout"
    seconds: float = getattr(context.settings, name)
    reading = read_form(call, limits, seconds, context.resolve, timeout_name=name, charset="utf-8")
    async with AsyncExitStack() as stack:
        try:
            data = await stack.enter_async_context(reading)
        except InvalidForm as error:
            raise Malformed(f"Multipart form parse error - {error.reason}") from None
        except BodyTooLarge:
            if not image:
                raise
            raise InvalidFields({"image": [too_many_bytes(MOST_IMAGE_BYTES)]}).at("MOST_IMAGE_BYTES") from None
        yield Form([(name, await _part(value)) for name, value in data.multi_items()])


async def _part(value: str | UploadFile) -> str | UploadFile:
    """Return the value of a part. A field for a file in which none was chosen is an empty text."""
    if isinstance(value, str) or value.filename:
        return value
    return (await value.read(MOST_FIELD_BYTES)).decode(errors="replace")
