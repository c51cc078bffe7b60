"""The benchmark's clients detect missing, repeated and misordered events, however the bytes are divided."""

from __future__ import annotations

import pytest

from benchmarks.event_streams import EventStream, EventStreamPool
from benchmarks.watchers import ClientPool, Watcher
from realtime.engineio import build_text_frame

EVENT = '42["change",{"channel":"c","entity":{"value":%d,"note":"' + "x" * 200 + '"}}]'
EVENTS = [build_text_frame(EVENT % number) for number in range(4)]


async def pool_of(number: int) -> ClientPool:
    pool = ClientPool(("127.0.0.1", 1), "40")
    pool.watchers = [Watcher(pool, ()) for _ in range(number)]
    pool.expect(4 * number)
    return pool


@pytest.mark.parametrize("size", [1, 7, 100, 230, 1_000])
async def test_events_are_read_from_chunks_of_any_size(size: int) -> None:
    """Each event is counted once, whether or not the pool has seen an equal chunk before."""
    pool = await pool_of(2)
    octets = b"".join(EVENTS)
    for watcher in pool.watchers:
        for at in range(0, len(octets), size):
            watcher.data_received(octets[at : at + size])
    assert pool.check(lambda index: range(4)) == []
    assert len(pool.lags) == 8


FAULTS = [([0, 1, 3], "missed 1 of 4"), ([0, 1, 1, 2, 3], "got 1 too many"), ([1, 0, 2, 3], "different orders")]


@pytest.mark.parametrize(("delivered", "fault"), FAULTS, ids=lambda value: str(value))
async def test_what_is_wrong_is_said(delivered: list[int], fault: str) -> None:
    pool = await pool_of(2)
    for watcher, numbers in zip(pool.watchers, (range(4), delivered), strict=True):
        for number in numbers:
            watcher.data_received(EVENTS[number])
    (found,) = pool.check(lambda index: range(4))
    assert fault in found


async def test_what_nobody_subscribed_to_is_wrong_too() -> None:
    pool = await pool_of(1)
    pool.watchers[0].data_received(EVENTS[0])
    assert pool.check(lambda index: ()) != []


def chunk(event: str) -> bytes:
    return b"%x\r\n%s\r\n" % (len(event), event.encode())


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
CONNECT = chunk('id:a1\nevent:PB_CONNECT\ndata:{"clientId":"a1"}\n\n')
STREAMED = [
    chunk(f'id:a1\nevent:readings/*\ndata:{{"record":{{"note":"x","value":{number}}},"action":"update"}}\n\n')
    for number in range(4)
]


def stream_pool() -> EventStreamPool:
    pool = EventStreamPool(("127.0.0.1", 1), lambda client, topics: None)
    pool.watchers = [EventStream(pool, ()) for _ in range(2)]
    pool.expect(8)
    return pool


@pytest.mark.parametrize("size", [1, 7, 100, 1_000])
async def test_server_sent_events_are_read_from_pieces_of_any_size(size: int) -> None:
    """They may arrive in any order, since PocketBase promises none."""
    pool = stream_pool()
    for stream, numbers in zip(pool.watchers, ((0, 1, 2, 3), (3, 1, 0, 2)), strict=True):
        octets = HEAD + CONNECT + b"".join(STREAMED[number] for number in numbers)
        for at in range(0, len(octets), size):
            stream.data_received(octets[at : at + size])
        assert isinstance(stream, EventStream)
        assert (stream.client, stream.ready.done()) == ("a1", True)
    assert pool.check(lambda index: range(4)) == []


async def test_a_lost_server_sent_event_is_a_fault() -> None:
    pool = stream_pool()
    for stream, numbers in zip(pool.watchers, ((0, 1, 2, 3), (0, 1, 3)), strict=True):
        stream.data_received(HEAD + CONNECT + b"".join(STREAMED[number] for number in numbers))
    (found,) = pool.check(lambda index: range(4))
    assert "missed 1 of 4" in found


async def test_a_stream_that_is_refused_is_a_fault() -> None:
    pool = stream_pool()
    pool.watchers[0].data_received(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert "400" in pool.faults[0]
    assert isinstance(pool.watchers[0].ready.exception(), RuntimeError)
