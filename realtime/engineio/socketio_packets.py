"""Strict Socket.IO packets: python-socketio's packet class with orjson and a decoder that rejects invalid packets.

`<type>[<attachments>-][<namespace>,][<id>][<JSON>]`; the types are 0 CONNECT, 1 DISCONNECT, 2 EVENT, 3 ACK,
4 CONNECT_ERROR, 5 BINARY_EVENT, 6 BINARY_ACK. Protocols 4 (EIO=3) and 5 (EIO=4) differ in CONNECT and CONNECT_ERROR.

Source: socket.io-protocol v4 and v5.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Final, NoReturn
from urllib.parse import parse_qsl

import orjson
from socketio import packet  # type: ignore[import-untyped]

from stores.bounds import Limit
from stores.errors import StoreError
from stores.limits import parse_json

MAX_ATTACHMENTS: Final[Annotated[int, Limit("packet", "attachments", "closed")]] = 64
RESERVED: Final = frozenset(
    ("connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener")
)
BINARY_TYPES: Final = frozenset((packet.BINARY_EVENT, packet.BINARY_ACK))
EVENT_TYPES: Final = frozenset((packet.EVENT, packet.BINARY_EVENT))

_WIRE: Final = re.compile(r"([0-6])(?:([0-9]{1,3})-)?(?:(/[^,]*)(?:,|$))?([0-9]{1,15})?(.*)", re.DOTALL)


class Json:
    """The JSON module that python-socketio needs: orjson, or the standard library for values that orjson cannot
    write."""

    @staticmethod
    def dumps(data: Any, **_: Any) -> str:
        try:
            return orjson.dumps(data).decode()
        except TypeError:  # such as an integer of more than 64 bits
            return json.dumps(data, separators=(",", ":"))

    loads = staticmethod(orjson.loads)


class HubPacket(packet.Packet):  # type: ignore[misc]
    """A Socket.IO packet, outgoing or incoming."""

    json = Json

    @classmethod
    def read(cls, message: str | bytes) -> HubPacket:
        """Return the packet that begins with this message. Raises ValueError if a client may not send it."""
        packet = cls()
        packet.attachment_count = packet.decode(message)
        return packet

    def decode(self, encoded_packet: str | bytes) -> int:
        match = _WIRE.fullmatch(encoded_packet) if isinstance(encoded_packet, str) else None
        if match is None:
            raise ValueError("not a Socket.IO packet")
        type, attachments, namespace, id, data = match.groups()
        self.packet_type = int(type)
        self.id = None if id is None else int(id)
        self.data = self._parsed(data) if data else None
        self.namespace: str
        self.namespace, _, query = (namespace or "/").partition("?")
        if query and self.packet_type == packet.CONNECT and self.data is None:
            self.data = dict(parse_qsl(query, max_num_fields=100))
        self._check(attachments)
        return int(attachments or 0)

    def _parsed(self, text: str) -> Any:
        """Return the data. An event whose arguments the hub cannot accept has the error as its only argument."""
        if self.packet_type not in EVENT_TYPES:
            return orjson.loads(text)
        try:
            return parse_json(text.encode())
        except (ValueError, StoreError) as error:
            return [_name_of_event(text), error]

    def _check(self, attachments: str | None) -> None:
        if (attachments is not None) != (self.packet_type in BINARY_TYPES):
            raise ValueError("attachments where none belong, or none where some do")
        if int(attachments or 0) > MAX_ATTACHMENTS:
            raise ValueError("too many attachments")
        if not self._has_fitting_data():
            raise ValueError("not the data of such a packet")

    def _has_fitting_data(self) -> bool:
        data = self.data
        if self.packet_type == packet.CONNECT:
            return data is None or isinstance(data, dict)
        if self.packet_type == packet.DISCONNECT:
            return data is None
        if self.packet_type in (packet.ACK, packet.BINARY_ACK):
            return isinstance(data, list) and self.id is not None
        if self.packet_type in EVENT_TYPES:
            return isinstance(data, list) and bool(data) and _is_event(data[0])
        return False

    def add_attachment(self, attachment: str | bytes) -> bool:
        """Add an attachment, and return whether the packet is complete.

        Raises ValueError for text, and for a placeholder without its attachment.
        """
        if not isinstance(attachment, bytes):
            raise ValueError("text among attachments")
        try:
            return bool(super().add_attachment(attachment))
        except (IndexError, TypeError, RecursionError) as error:
            raise ValueError("a placeholder without its attachment") from error

    @property
    def attached_bytes(self) -> int:
        return sum(map(len, self.attachments))


def _is_event(name: object) -> bool:
    return isinstance(name, int) or (isinstance(name, str) and name not in RESERVED)


def _name_of_event(text: str) -> Any:
    """Return the event's name, if other parsers accept the JSON: JavaScript's takes half of a surrogate pair and
    numbers out of range. Raises ValueError for other input, because its sender does not speak the protocol."""
    try:
        data = json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(data, list) or not data:
        raise ValueError("not the data of an event")
    return data[0]


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def for_version_3(sent: packet.Packet) -> packet.Packet:
    """Return the packet in the form of protocol 4: CONNECT carries nothing, CONNECT_ERROR a text."""
    if sent.packet_type == packet.CONNECT:
        sent.data = None
    elif sent.packet_type == packet.CONNECT_ERROR and isinstance(sent.data, dict):
        sent.data = sent.data.get("message")
    return sent


def for_version_4(sent: packet.Packet) -> packet.Packet:
    """Return the packet in the form of protocol 5: CONNECT_ERROR carries an object with a message."""
    if sent.packet_type == packet.CONNECT_ERROR and not isinstance(sent.data, dict):
        sent.data = {"message": sent.data}
    return sent
