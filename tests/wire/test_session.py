"""The session without a network or a clock: heartbeats, the upgrade, its end, its bounds."""

from __future__ import annotations

import json
from math import inf
from typing import Any

import pytest

from realtime.engineio.options import Options, TransportName
from realtime.engineio.packets import CLOSE, MESSAGE, NOOP, PING, PONG, UPGRADE, Packet, Version
from realtime.engineio.session import CloseReason, Session

PROBE = Packet(PING, "probe")


def session(version: Version = 4, transport: TransportName = "polling", **settings: Any) -> Session:
    """Return a session that was opened at time 0 and has sent its open packet."""
    fresh = Session("sid", version, transport, Options(**settings), 0.0)
    fresh.take()
    return fresh


def silent(session: Session, now: float) -> bool:
    session.tick(now)
    return session.closed is CloseReason.PING_TIMEOUT


@pytest.mark.parametrize(
    ("version", "transport", "data"),
    [
        (3, "websocket", {"sid": "sid", "upgrades": [], "pingInterval": 25_000, "pingTimeout": 60_000}),
        (3, "polling", {"sid": "sid", "upgrades": ["websocket"], "pingInterval": 25_000, "pingTimeout": 60_000}),
        (
            4,
            "polling",
            {
                "sid": "sid",
                "upgrades": ["websocket"],
                "pingInterval": 25_000,
                "pingTimeout": 60_000,
                "maxPayload": 1_000_000,
            },
        ),
    ],
)
def test_the_open_packet_has_the_keys_of_its_version(
    version: Version, transport: TransportName, data: dict[str, Any]
) -> None:
    (packet,) = Session("sid", version, transport, Options(), 0.0).take()
    assert (packet.type, json.loads(packet.data)) == ("0", data)


def test_version_3_can_be_told_the_largest_payload_too() -> None:
    (packet,) = Session("sid", 3, "polling", Options(announce_max_payload=True), 0.0).take()
    assert json.loads(packet.data)["maxPayload"] == 1_000_000


def test_no_upgrade_is_offered_that_is_not_allowed() -> None:
    for settings in ({"allow_upgrades": False}, {"transports": ("polling",)}):
        assert not session(**settings).begin_upgrade(0)


# Heartbeat


def test_in_version_3_the_client_pings_and_its_data_comes_back() -> None:
    client = session(3)
    assert client.receive(Packet(PING, "x"), 25.0) is None
    assert client.take() == [Packet(PONG, "x")]


def test_in_version_3_any_packet_keeps_the_session_for_interval_and_timeout() -> None:
    client = session(3)
    assert client.due == 85.0
    client.receive(Packet(MESSAGE, "x"), 80.0)
    assert client.due == 165.0
    assert not silent(client, 164.9)
    assert silent(client, 165.0)


def test_in_version_4_the_server_pings_every_interval() -> None:
    client = session()
    for sent in (25.0, 51.0, 77.0):
        assert client.due == sent
        client.tick(sent)
        assert client.take() == [Packet(PING)]
        client.receive(Packet(PONG), sent + 1)


def test_in_version_4_a_client_without_a_pong_is_gone_after_the_timeout() -> None:
    client = session()
    client.tick(25.0)
    client.receive(Packet(MESSAGE, "no pong"), 30.0)
    assert not silent(client, 84.9)
    assert silent(client, 85.0)


def test_a_timer_that_is_late_leaves_the_client_its_time_to_answer() -> None:
    """The timeout is counted from the time when the ping was sent, not when it was due."""
    client = session()
    client.tick(85.0)
    assert client.take() == [Packet(PING)]
    assert not silent(client, 144.9)
    assert silent(client, 145.0)


def test_a_timer_that_is_hardly_late_leaves_a_silent_client_no_longer() -> None:
    """The timers of many clients expire together, a few milliseconds late."""
    client = session(ping_interval=1_000, ping_timeout=200)
    assert not silent(client, 1.005)
    assert not silent(client, 1.199)
    assert silent(client, 1.2)


def test_a_client_that_sends_pings_and_polls_nothing_is_lagging() -> None:
    client = session(3, max_buffered_bytes=100)
    for _ in range(11):
        client.receive(Packet(PING, "x" * 10), 1.0)
    assert client.closed is None
    client.receive(Packet(PING, "x"), 1.0)
    assert client.closed is CloseReason.LAGGING


@pytest.mark.parametrize(("version", "type"), [(3, PONG), (4, PING)])
def test_a_heartbeat_in_the_wrong_direction_ends_the_session(version: Version, type: str) -> None:
    client = session(version, "websocket")
    client.receive(Packet(type), 1.0)
    assert client.closed is CloseReason.PARSE_ERROR


def test_a_session_may_expire() -> None:
    client = session()
    client.expires = 10.0
    assert client.due == 10.0
    client.tick(10.0)
    assert client.closed is CloseReason.NOT_CONNECTED


# Messages and bounds


def test_messages_are_for_the_application_and_others_are_not() -> None:
    client = session()
    assert client.receive(Packet(MESSAGE, "x"), 1.0) == "x"
    assert client.receive(Packet(MESSAGE, b"x"), 1.0) == b"x"
    assert client.receive(Packet(NOOP), 1.0) is None
    assert client.receive(Packet(UPGRADE), 1.0) is None
    assert client.closed is None


def test_a_client_with_too_many_bytes_waiting_is_lagging() -> None:
    client = session(max_buffered_bytes=10)
    client.send("x" * 100)
    assert client.closed is None
    client.send("x")
    assert client.closed is CloseReason.LAGGING


def test_a_client_with_too_many_packets_waiting_is_lagging() -> None:
    client = session(max_queued_packets=3)
    for _ in range(3):
        client.send("")
    assert client.closed is None
    client.send("")
    assert client.closed is CloseReason.LAGGING


def test_what_was_taken_no_longer_waits() -> None:
    client = session(max_buffered_bytes=10)
    for _ in range(10):
        client.send("x" * 9)
        assert client.take() == [Packet(MESSAGE, "x" * 9)]


# Upgrade


def upgrading() -> Session:
    client = session()
    assert client.begin_upgrade(1.0)
    assert client.probe(PROBE) == Packet(PONG, "probe")
    return client


def test_while_a_websocket_is_probed_packets_wait_and_a_poll_gets_a_noop() -> None:
    client = upgrading()
    client.send("held")
    assert client.has_output
    assert client.take() == [Packet(NOOP)]
    assert client.probe(Packet(UPGRADE)) is None
    assert (client.transport, client.take()) == ("websocket", [Packet(MESSAGE, "held")])


def test_only_one_websocket_may_try_at_a_time_and_none_after_it() -> None:
    client = upgrading()
    assert not client.begin_upgrade(2.0)
    client.probe(Packet(UPGRADE))
    assert not client.begin_upgrade(3.0)


@pytest.mark.parametrize("packet", [Packet(MESSAGE, "early"), Packet(PING), Packet(PING, "other"), Packet(PONG)])
def test_anything_else_on_the_probed_websocket_ends_the_attempt(packet: Packet) -> None:
    client = upgrading()
    assert client.probe(packet) is None
    assert (client.transport, client.upgrading, client.closed) == ("polling", False, None)


def test_an_upgrade_without_a_probe_is_none() -> None:
    client = session()
    client.begin_upgrade(1.0)
    client.probe(Packet(UPGRADE))
    assert client.transport == "polling"


def test_an_upgrade_that_is_not_completed_in_time_is_given_up_and_polling_goes_on() -> None:
    client = upgrading()
    assert client.due == 11.0
    client.send("held")
    client.tick(11.0)
    assert not client.upgrading
    assert client.take() == [Packet(MESSAGE, "held")]


# The end


def test_the_close_packet_comes_alone_by_a_further_poll() -> None:
    """Beside messages it would end socket.io-client 4 before that has delivered them."""
    client = session()
    client.send("waiting")
    client.close(CloseReason.REVOKED, "why")
    client.send("late")
    assert client.take() == [Packet(MESSAGE, "waiting"), Packet(MESSAGE, "why")]
    assert (client.closing, client.has_output, client.queued_bytes) == (True, True, 0)
    client.send("late")
    assert client.receive(Packet(MESSAGE, "late"), 1) is None
    assert client.take() == [Packet(CLOSE)]
    assert (client.closing, client.has_output) == (False, False)


def test_a_poll_is_told_why_after_what_waits() -> None:
    client = session(max_queued_packets=1)
    client.take()
    client.send("taken")
    assert client.full
    client.close(CloseReason.LAGGING, "why")
    assert client.closing
    assert client.take() == [Packet(MESSAGE, "taken"), Packet(MESSAGE, "why")]
    assert not client.closing


@pytest.mark.parametrize(
    ("reason", "last"),
    [
        (CloseReason.SERVER_DISCONNECT, CLOSE),
        (CloseReason.REVOKED, CLOSE),
        (CloseReason.EXPIRED, CLOSE),
        (CloseReason.SHUTDOWN, NOOP),
        (CloseReason.LAGGING, NOOP),
        (CloseReason.OVERLOADED, NOOP),
    ],
)
def test_only_who_shall_not_come_back_is_sent_a_close_packet(reason: CloseReason, last: str) -> None:
    """After a close packet python-engineio's client does not reconnect."""
    client = session()
    client.close(reason)
    assert client.take() == [Packet(last)]


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("polls", [0, 1])
def test_nobody_waits_for_ever_for_a_poll_to_tell_the_close(version: Version, polls: int) -> None:
    client = session(version)
    due = client.due
    client.close(CloseReason.REVOKED, "why")
    for _ in range(polls):
        client.take()
    assert (client.closing, client.due) == (True, due)
    client.tick(due)
    assert not client.closing


def test_a_poll_of_a_client_that_closes_is_answered_with_a_noop() -> None:
    client = session()
    client.receive(Packet(CLOSE), 1.0)
    assert client.closed is CloseReason.CLIENT_DISCONNECT
    assert client.take() == [Packet(NOOP)]


def test_a_session_that_nobody_will_poll_keeps_only_its_last_packet() -> None:
    """A poll may have begun meanwhile. It gets an answer."""
    left = session()
    left.send("x" * 1_000)
    left.receive(Packet(CLOSE), 1)
    left.drop_queue()
    assert left.queued_bytes == 0
    assert left.take() == [Packet(NOOP)]


def test_over_a_websocket_no_close_packet_is_sent() -> None:
    client = session(3, "websocket")
    client.close(CloseReason.SERVER_DISCONNECT)
    assert (client.take(), client.closing) == ([], False)


def test_after_the_end_nothing_counts() -> None:
    client = session(4, "websocket")
    client.close(CloseReason.LAGGING)
    client.close(CloseReason.SERVER_DISCONNECT)
    client.send("x")
    assert client.receive(Packet(MESSAGE, "x"), 1.0) is None
    assert (client.closed, client.take(), client.expires) == (CloseReason.LAGGING, [], inf)
