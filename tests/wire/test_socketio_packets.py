"""Socket.IO packets: valid and invalid input from clients."""

from __future__ import annotations

from typing import Any

import pytest
from socketio import packet  # type: ignore[import-untyped]

from realtime.engineio.socketio_packets import HubPacket, for_version_3, for_version_4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", (0, "/", None, None)),
        ('0{"token":"x"}', (0, "/", None, {"token": "x"})),
        ("0/admin,", (0, "/admin", None, None)),
        ("0/admin", (0, "/admin", None, None)),
        ("0/admin?token=1&x=%20,", (0, "/admin", None, {"token": "1", "x": " "})),
        ('0/admin,{"a":1}', (0, "/admin", None, {"a": 1})),
        ("1", (1, "/", None, None)),
        ("1/admin,", (1, "/admin", None, None)),
        ('2["x",1]', (2, "/", None, ["x", 1])),
        ('2/admin,12["x"]', (2, "/admin", 12, ["x"])),
        ("3/admin,12[]", (3, "/admin", 12, [])),
        ("30[1]", (3, "/", 0, [1])),
    ],
)
def test_packets_are_read(text: str, expected: tuple[Any, ...]) -> None:
    read = HubPacket.read(text)
    assert (read.packet_type, read.namespace, read.id, read.data) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7",
        "abc",
        "é",
        b"\x01",
        "2",
        "2{}",
        "2[]",
        "2[{}]",
        "2[null]",
        "2abc[1]",
        "2²[1]",
        '2["x"',
        "2" + "9" * 200 + '["x"]',
        '2["connect"]',
        '2["disconnecting"]',
        '2["newListener"]',
        '21-["x"]',
        "3[1]",
        "31{}",
        "0[]",
        "0[1]",
        "1{}",
        '4{"message":"x"}',
        '5["x"]',
        '565-["x"]',
        '5999999999-["x"]',
        "2" + "[" * 5000,
    ],
)
def test_what_a_client_may_not_send_is_an_error(text: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        HubPacket.read(text)


def test_attachments_find_their_places() -> None:
    read = HubPacket.read('52-1["x",{"_placeholder":true,"num":1},[{"_placeholder":true,"num":0}]]')
    assert not read.add_attachment(b"a")
    assert (read.attached_bytes, read.add_attachment(b"b")) == (1, True)
    assert read.data == ["x", b"b", [b"a"]]


@pytest.mark.parametrize("num", ["7", '"x"', "null", "{}"])
def test_a_placeholder_that_points_nowhere_is_an_error(num: str) -> None:
    read = HubPacket.read(f'51-["x",{{"_placeholder":true,"num":{num}}}]')
    with pytest.raises(ValueError, match="placeholder"):
        read.add_attachment(b"a")


def test_text_among_attachments_is_an_error() -> None:
    with pytest.raises(ValueError, match="text"):
        HubPacket.read('51-["x"]').add_attachment('2["x"]')


def test_json_is_compact_and_takes_large_numbers() -> None:
    assert HubPacket(packet.EVENT, ["é", {"n": 2**70}]).encode() == '2["\\u00e9",{"n":1180591620717411303424}]'
    assert HubPacket(packet.EVENT, ["é", 1.5, None]).encode() == '2["é",1.5,null]'


@pytest.mark.parametrize(
    ("type", "data", "version_3", "version_4"),
    [
        (packet.CONNECT, {"sid": "x"}, "0/a,", '0/a,{"sid":"x"}'),
        (packet.CONNECT_ERROR, {"message": "no"}, '4/a,"no"', '4/a,{"message":"no"}'),
        (packet.CONNECT_ERROR, "no", '4/a,"no"', '4/a,{"message":"no"}'),
        (packet.DISCONNECT, None, "1/a,", "1/a,"),
        (packet.EVENT, ["x"], '2/a,["x"]', '2/a,["x"]'),
    ],
)
def test_the_protocols_differ_in_connect_and_its_refusal(type: int, data: Any, version_3: str, version_4: str) -> None:
    assert for_version_3(HubPacket(type, data, namespace="/a")).encode() == version_3
    assert for_version_4(HubPacket(type, data, namespace="/a")).encode() == version_4
