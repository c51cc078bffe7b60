"""Engine.IO and Socket.IO packets: random bytes, and damaged valid packets."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.engineio.options import Options
from realtime.engineio.packets import (
    MalformedPacket,
    Packet,
    Version,
    decode_binary,
    decode_jsonp,
    decode_payload,
    decode_text,
    encode_payload,
)
from realtime.engineio.session import Session
from realtime.engineio.socketio_packets import HubPacket

pytestmark = pytest.mark.generated

versions: st.SearchStrategy[Version] = st.sampled_from((3, 4))
pieces = st.sampled_from(
    ["0", "2", "3", "4", "40", "42", "451-", "b4", "\x1e", ":", "1:", "999:", ",", "/a,", "é", "😀"]
)
nearly = st.lists(pieces | st.text(max_size=4), max_size=12).map("".join)
datas = st.text(max_size=20) | st.binary(max_size=20)
packets = st.builds(Packet, st.just("4"), datas) | st.sampled_from([Packet("2", "probe"), Packet("3"), Packet("1")])

events = st.sampled_from(
    [
        '42["subscribe",{"store":"a"}]',
        '421["subscribe",{"store":"a","filter":{"a":{"$gt":1}}}]',
        '40{"token":"x"}',
        "40/admin,",
        '451-["x",{"_placeholder":true,"num":0}]',
        '462-7[{"_placeholder":true,"num":1}]',
        "41",
        '43[1,2]',
    ]
)  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Draw valid bytes with a part removed, repeated or overwritten."""
    body = draw(whole)
    start = draw(st.integers(0, len(body)))
    end = draw(st.integers(start, len(body)))
    middle = draw(st.sampled_from([b"", body[start:end] * 2, b"\xff", b"\x00"]) | st.binary(max_size=4))
    return body[:start] + middle + body[end:]


@st.composite
def payloads(draw: st.DrawFn, version: Version, octets: bool) -> bytes:
    sent = draw(st.lists(packets, min_size=1, max_size=4))
    return encode_payload(version, sent, octets=octets)


@given(st.data(), versions, st.booleans())
def test_payloads(data: st.DataObject, version: Version, octets: bool) -> None:
    """A POST body yields packets or raises MalformedPacket. A session handles all packets without another error."""
    octets = octets and version == 3
    body = data.draw(st.binary(max_size=200) | nearly.map(str.encode) | damaged(payloads(version, octets)))
    try:
        received = list(decode_payload(version, body, octets=octets))
    except MalformedPacket:
        return
    session = Session("sid", version, "polling", Options(), now=0.0)
    for packet in received:
        session.receive(packet, now=1.0)
        session.probe(packet)
    session.take()


@given(nearly, st.binary(max_size=50), versions)
def test_frames(text: str, octets: bytes, version: Version) -> None:
    """A frame yields one packet or raises MalformedPacket."""
    for decode in (lambda: decode_text(text), lambda: decode_binary(version, octets)):
        try:
            assert isinstance(decode(), Packet)
        except MalformedPacket:
            pass


@given(st.binary(max_size=200) | nearly.map(lambda text: b"d=" + text.encode()))
def test_jsonp_forms(body: bytes) -> None:
    try:
        assert isinstance(decode_jsonp(body), bytes)
    except MalformedPacket:
        pass


@given(nearly | damaged(events.map(str.encode)).map(lambda b: b.decode(errors="replace")), st.lists(datas, max_size=3))
def test_socketio_packets(message: str, attachments: list[Any]) -> None:
    """A message yields a packet whose data fit its type, or raises ValueError; the same holds for attachments."""
    try:
        packet = HubPacket.read(message[1:])
        for attachment in attachments:
            if packet.attachment_count:
                packet.add_attachment(attachment)
    except ValueError:
        return
    if packet.packet_type in (2, 5):
        assert isinstance(packet.data, list)
        assert packet.data
