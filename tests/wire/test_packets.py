"""Packets and payloads of both versions: encoding and decoding of every form, and malformed input."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.engineio import packets
from realtime.engineio.packets import MESSAGE, MalformedPacket, Packet, Version

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
PACKETS = st.lists(st.builds(Packet, st.just(MESSAGE), TEXT | st.binary()), min_size=1, max_size=5)


def message(data: str | bytes) -> Packet:
    return Packet(MESSAGE, data)


BINARY = b"\x01\x02\x03\x04"


@pytest.mark.parametrize(
    ("version", "sent", "body"),
    [
        (3, [message("hello")], "6:4hello"),
        (3, [message("€")], "2:4€"),
        (3, [message("😀")], "3:4😀"),
        (3, [message("😀"), message("x")], "3:4😀2:4x"),
        (3, [message(BINARY)], "10:b4AQIDBA=="),
        (3, [Packet(packets.CLOSE), Packet(packets.NOOP)], "1:11:6"),
        (4, [message("hello")], "4hello"),
        (4, [message("a"), message("€😀")], "4a\x1e4€😀"),
        (4, [message(BINARY)], "bAQIDBA=="),
        (4, [Packet(packets.CLOSE), Packet(packets.NOOP)], "1\x1e6"),
    ],
)
def test_text_payloads_have_the_form_of_their_version(version: Version, sent: list[Packet], body: str) -> None:
    assert packets.encode_payload(version, sent).decode() == body
    assert list(packets.decode_payload(version, body.encode())) == sent


def test_an_octet_payload_has_a_kind_length_digits_and_ff_before_each_packet() -> None:
    body = bytes([0, 6, 255, *b"4hello", 1, 5, 255, 4, *BINARY])
    sent = [message("hello"), message(BINARY)]
    assert packets.encode_payload(3, sent, octets=True) == body
    assert list(packets.decode_payload(3, body, octets=True)) == sent


def test_octets_are_used_only_when_a_packet_is_binary() -> None:
    assert packets.encode_payload(3, [message("hello")], octets=True) == b"6:4hello"


def test_lengths_of_octets_have_as_many_digits_as_they_need() -> None:
    sent = [message("é" * 60), message(bytes(123))]
    body = packets.encode_payload(3, sent, octets=True)
    assert body[:5] == bytes([0, 1, 2, 1, 255])
    assert list(packets.decode_payload(3, body, octets=True)) == sent


@given(PACKETS)
def test_version_3_decodes_what_it_encodes(sent: list[Packet]) -> None:
    for octets in (False, True):
        body = packets.encode_payload(3, sent, octets=octets)
        binary = octets and packets.has_binary(sent)
        expected = [Packet(MESSAGE, undone(packet.data, binary)) for packet in sent]
        assert list(packets.decode_payload(3, body, octets=binary)) == expected


def undone(data: str | bytes, binary: bool) -> str | bytes:
    """Return the data as decoded: text that happens to look like UTF-8 in Latin-1 is taken for double encoding by
    socket.io-client 1.x."""
    return data if binary or isinstance(data, bytes) else packets.undo_double_utf8(data)


@given(PACKETS)
def test_version_4_decodes_what_it_encodes(sent: list[Packet]) -> None:
    sent = [packet for packet in sent if isinstance(packet.data, bytes) or "\x1e" not in packet.data] or [message("")]
    assert list(packets.decode_payload(4, packets.encode_payload(4, sent))) == sent


@pytest.mark.parametrize(
    ("version", "octets", "body"),
    [
        (4, False, b""),
        (4, False, b"abc"),
        (4, False, b"4a\x1e"),
        (4, False, b"7"),
        (4, False, b"b!!"),
        (4, False, b"4\xff"),
        (4, True, b"\x00\x02\xff4a"),
        (3, False, b""),
        (3, False, b"abc"),
        (3, False, b"4hello"),
        (3, False, b"9:4hello"),
        (3, False, b"0:"),
        (3, False, b"-1:4"),
        (3, False, "²:4a".encode()),
        (3, False, b"99999999999:4"),
        (3, False, b"2:9a"),
        (3, False, b"6:b2AQID"),
        (3, True, b""),
        (3, True, b"\x00\xff4a"),
        (3, True, b"\x00\x03\xff4a"),
        (3, True, b"\x02\x02\xff4a"),
        (3, True, b"\x00\x0a\xff4a"),
        (3, True, b"\x00\x02\xff4\xff"),
        (3, True, b"\x01\x02\xff\x09a"),
    ],
)
def test_what_is_no_payload_is_malformed(version: Version, octets: bool, body: bytes) -> None:
    with pytest.raises(MalformedPacket):
        list(packets.decode_payload(version, body, octets=octets))


def test_frames_of_text_are_the_same_in_both_versions() -> None:
    for version in (3, 4):
        assert packets.encode_frame(version, message("é")) == "4é"
        assert packets.decode_text("4é") == message("é")


def test_frames_of_binary_begin_with_the_type_in_version_3_only() -> None:
    assert packets.encode_frame(3, message(BINARY)) == b"\x04" + BINARY
    assert packets.encode_frame(4, message(BINARY)) == BINARY
    assert packets.decode_binary(3, b"\x04" + BINARY) == packets.decode_binary(4, BINARY) == message(BINARY)


@pytest.mark.parametrize("octets", [b"", b"\x07a", b"\xff"])
def test_a_binary_frame_of_version_3_needs_a_type(octets: bytes) -> None:
    with pytest.raises(MalformedPacket):
        packets.decode_binary(3, octets)


def test_the_double_utf8_of_socketio_client_1_is_undone() -> None:
    twice = '42["message","é€😀"]'.encode().decode("latin-1")
    body = f"{len(twice)}:{twice}".encode()
    assert list(packets.decode_payload(3, body)) == [message('2["message","é€😀"]')]


@pytest.mark.parametrize("text", ["é", "€", "日本", "Ünï"])
def test_what_was_encoded_once_stays(text: str) -> None:
    assert packets.undo_double_utf8(text) == text


def test_escaped_json_is_ascii_and_says_the_same() -> None:
    escaped = packets.escape_json('2/nämespace,["é","😀\u2028"]')
    head, _, data = escaped.partition(",")
    assert (head, data.isascii()) == ("2/nämespace", True)
    assert json.loads(data) == ["é", "😀\u2028"]


def test_jsonp_is_a_call_with_a_string_that_no_javascript_breaks_at() -> None:
    body = packets.encode_jsonp("3);alert(1", packets.encode_payload(3, [message('\u2028"\u2029')]))
    assert body == b'___eio[31]("4:4\\u2028\\"\\u2029");'


def test_a_jsonp_post_brings_newlines_escaped() -> None:
    # In the form's text \n is a newline, and \\n is a backslash and an n.
    body = b"d=" + quote("7:4a\\nb\\\\nc").encode()
    assert packets.decode_jsonp(body) == b"7:4a\nb\\nc"


@pytest.mark.parametrize("body", [b"", b"x=1", b"d", b"\xff=1"])
def test_a_jsonp_post_that_is_no_such_form_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedPacket):
        packets.decode_jsonp(body)
