"""Ports for the servers of the tests."""

from __future__ import annotations

import socket

import pytest

from tests.support.ports import free_port, part_of, quiet_ports


@pytest.mark.parametrize(
    ("outgoing", "ports"),
    [
        ((32_768, 60_999), range(20_000, 32_768)),
        ((15_000, 60_999), range(61_000, 65_536)),
        ((1_024, 65_535), range(20_000, 65_536)),
    ],
)
def test_they_are_outside_the_range_for_outgoing_connections_if_there_is_room(
    outgoing: tuple[int, int], ports: range
) -> None:
    assert quiet_ports(outgoing) == ports


def test_each_process_has_its_part() -> None:
    parts = [set(part_of(range(20_000, 32_768), worker, 3)) for worker in range(3)]
    assert all(len(part) == 4_256 for part in parts)
    assert len(set.union(*parts)) == 3 * 4_256


def test_a_port_that_is_in_use_is_not_taken() -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port + 1)):  # the next in turn
        assert free_port() not in (port, port + 1)
