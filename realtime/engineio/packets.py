"""Encoding of Engine.IO packets and payloads, for both versions.

Over a WebSocket a packet is one frame. Polling carries many packets in one body, the payload, in one of three forms:

| | EIO=3 | EIO=4 |
| --- | --- | --- |
| text | `<length>:<packet>` (UTF-16 code units), binary `b<type><base64>` | joined by U+001E, binary `b<base64>` |
| octets | per packet `00` or `01`, the length with one byte per digit, `ff`, data | not in this version |
| JSONP | the text form as a JavaScript string | not in this version |

Source: engine.io-protocol v3 and v4.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Final, Literal, NamedTuple
from urllib.parse import parse_qs

from stores.bounds import Limit

Version = Literal[3, 4]
Data = str | bytes

OPEN: Final = "0"
CLOSE: Final = "1"
PING: Final = "2"
PONG: Final = "3"
MESSAGE: Final = "4"
UPGRADE: Final = "5"
NOOP: Final = "6"
TYPES: Final = frozenset("0123456")

SEPARATOR: Final = "\x1e"
OCTETS_TEXT: Final = 0
OCTETS_BINARY: Final = 1
OCTETS_END_OF_LENGTH: Final = 255
MAX_LENGTH_DIGITS: Final[Annotated[int, Limit("packet", "digits of its length", "closed")]] = 10


class MalformedPacket(ValueError):
    """The client sent something that is not a packet or payload of its version. The session ends."""


class Packet(NamedTuple):
    """`type` is one of the digits above; `data` is bytes only in a binary message."""

    type: str
    data: Data = ""


def exceeds(data: Data, most: int) -> bool:
    """Return whether a message has more than `most` bytes."""
    # A character has at most four bytes, so most texts need no look at their characters.
    return len(data) * 4 > most and byte_length(data) > most


def byte_length(data: Data) -> int:
    """Return the bytes of a message. Text is UTF-8."""
    if isinstance(data, bytes) or data.isascii():
        return len(data)
    return len(data.encode("utf-8", "surrogatepass"))


def decode_text(text: str) -> Packet:
    """Decode the packet in a text frame, or one packet's text in a payload: `4hello`. Raises MalformedPacket."""
    if text[:1] not in TYPES:
        raise MalformedPacket("unknown packet type")
    return Packet(text[0], text[1:])


def decode_binary(version: Version, octets: bytes) -> Packet:
    """Decode the packet in a binary frame.

    In EIO=3 its first byte is the type; in EIO=4 the whole frame is a message. Raises MalformedPacket.
    """
    if version == 4:
        return Packet(MESSAGE, octets)
    if not octets or octets[0] > int(NOOP):
        raise MalformedPacket("unknown packet type")
    type = str(octets[0])
    return Packet(type, octets[1:] if type == MESSAGE else octets[1:].decode("utf-8", "replace"))


def encode_frame(version: Version, packet: Packet) -> Data:
    """Return the content of the WebSocket frame that carries a packet: text as str, binary as bytes."""
    if isinstance(packet.data, str):
        return packet.type + packet.data
    return packet.data if version == 4 else bytes((int(packet.type),)) + packet.data


# Payloads in any form


def decode_payload(version: Version, body: bytes, *, octets: bool = False) -> Iterator[Packet]:
    """Return an iterator over the packets of a POST's body. Raises MalformedPacket at an invalid one.

    Packets are decoded one by one, because a body may have half as many packets as bytes. `octets`: its content type is
    application/octet-stream.
    """
    if octets:
        if version == 4:
            raise MalformedPacket("EIO=4 has no binary payloads")
        return _split_octets(body)
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise MalformedPacket("not UTF-8") from error
    if not text:
        raise MalformedPacket("empty payload")
    return map(_decode_v4, _split_separators(text)) if version == 4 else map(_decode_v3, _split_lengths(text))


def encode_payload(version: Version, packets: Sequence[Packet], *, octets: bool = False) -> bytes:
    """Return the body of the answer to a poll. `octets` (EIO=3 only): use that form if any packet is binary."""
    if version == 4:
        return SEPARATOR.join(map(_encode_v4, packets)).encode()
    if octets and has_binary(packets):
        return b"".join(map(_encode_octets, packets))
    return "".join(map(_encode_v3, packets)).encode()


def has_binary(packets: Iterable[Packet]) -> bool:
    return any(isinstance(packet.data, bytes) for packet in packets)


# EIO=4


def _split_separators(text: str) -> Iterator[str]:
    start = 0
    while (end := text.find(SEPARATOR, start)) >= 0:
        yield text[start:end]
        start = end + 1
    yield text[start:]


def _decode_v4(part: str) -> Packet:
    return Packet(MESSAGE, _unbase64(part[1:])) if part[:1] == "b" else decode_text(part)


def _encode_v4(packet: Packet) -> str:
    if isinstance(packet.data, bytes):
        return "b" + base64.b64encode(packet.data).decode()
    return packet.type + packet.data


def _unbase64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedPacket("not base64") from error


# EIO=3, text


def utf16_length(text: str) -> int:
    """Return the length of the text in JavaScript: characters beyond U+FFFF count twice."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def _encode_v3(packet: Packet) -> str:
    if isinstance(packet.data, bytes):
        text = "b" + packet.type + base64.b64encode(packet.data).decode()
    else:
        text = packet.type + packet.data
    return f"{utf16_length(text)}:{text}"


def _decode_v3(part: str) -> Packet:
    if part[:1] == "b":
        if part[1:2] != MESSAGE:
            raise MalformedPacket("only messages are binary")
        return Packet(MESSAGE, _unbase64(part[2:]))
    return decode_text(undo_double_utf8(part))


def _split_lengths(text: str) -> Iterator[str]:
    """Yield the packets of `6:4hello2:4€`."""
    units = None if text.isascii() or max(text) <= "\uffff" else text.encode("utf-16-le")
    total = len(text) if units is None else len(units) // 2
    at = 0
    while at < total:
        head = text[at : at + MAX_LENGTH_DIGITS + 1] if units is None else _units(units, at, at + MAX_LENGTH_DIGITS + 1)
        digits, colon, _ = head.partition(":")
        if not colon or not (digits.isascii() and digits.isdigit()):
            raise MalformedPacket("no packet length")
        start = at + len(digits) + 1
        at = start + int(digits)
        if at > total or at == start:
            raise MalformedPacket("wrong packet length")
        yield text[start:at] if units is None else _units(units, start, at)


def _units(units: bytes, start: int, end: int) -> str:
    return units[start * 2 : end * 2].decode("utf-16-le", "replace")


def undo_double_utf8(text: str) -> str:
    """Undo the double UTF-8 encoding of socket.io-client 1.x when polling, where it is recognizable.

    2.x, which is EIO=3 too, encodes once.
    """
    if text.isascii():
        return text
    try:
        return text.encode("latin-1").decode()
    except UnicodeError:
        return text


_JSON_STARTS: Final = re.compile(r'[\[{"]')
_NOT_ASCII: Final = re.compile(r"[^\x00-\x7f]")


def escape_json(text: str) -> str:
    r"""Return a Socket.IO packet with `\uXXXX` for non-ASCII characters in its JSON, so that 1.x and 2.x read the
    same."""
    if text.isascii() or not (start := _JSON_STARTS.search(text)):
        return text
    at = start.start()
    return text[:at] + _NOT_ASCII.sub(lambda match: json.dumps(match[0])[1:-1], text[at:])


# EIO=3, octets


def _encode_octets(packet: Packet) -> bytes:
    if isinstance(packet.data, bytes):
        kind, content = OCTETS_BINARY, bytes((int(packet.type),)) + packet.data
    else:
        kind, content = OCTETS_TEXT, (packet.type + packet.data).encode()
    return bytes((kind, *map(int, str(len(content))), OCTETS_END_OF_LENGTH)) + content


def _split_octets(body: bytes) -> Iterator[Packet]:
    at = 0
    if not body:
        raise MalformedPacket("empty payload")
    while at < len(body):
        end = body.find(OCTETS_END_OF_LENGTH, at, at + MAX_LENGTH_DIGITS + 2)
        length = _octet_length(body[at + 1 : end]) if end > at + 1 else -1
        content = body[end + 1 : end + 1 + length]
        if length < 1 or len(content) < length or body[at] not in (OCTETS_TEXT, OCTETS_BINARY):
            raise MalformedPacket("wrong packet length")
        yield decode_binary(3, content) if body[at] == OCTETS_BINARY else decode_text(_utf8(content))
        at = end + 1 + length


def _octet_length(digits: bytes) -> int:
    return int("".join(map(str, digits))) if max(digits) <= 9 else -1


def _utf8(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise MalformedPacket("not UTF-8") from error


# EIO=3, JSONP


def encode_jsonp(index: str, payload: bytes) -> bytes:
    """Return the script that passes a text payload to callback `index`: `___eio[0]("…");`. Only its digits are kept."""
    digits = "".join(char for char in index if char in "0123456789")
    # json.dumps escapes all non-ASCII characters, including U+2028 and U+2029, which end a line in older JavaScript.
    return f"___eio[{digits}]({json.dumps(payload.decode())});".encode()


_ESCAPED_NEWLINE: Final = re.compile(r"(\\)?\\n")


def decode_jsonp(body: bytes) -> bytes:
    r"""Return the payload in field `d` of a form. Clients write a newline as `\n`, and `\n` as `\\n`. Raises
    MalformedPacket."""
    try:
        fields = parse_qs(body.decode(), max_num_fields=8, strict_parsing=True)
    except ValueError as error:
        raise MalformedPacket("not a form") from error
    if "d" not in fields:
        raise MalformedPacket("no field d")
    text = _ESCAPED_NEWLINE.sub(lambda match: match[0] if match[1] else "\n", fields["d"][0])
    return text.replace("\\\\n", "\\n").encode()
