"""Addresses are found in threads, few at a time, by the system's resolver or in a file."""

from __future__ import annotations

import asyncio
import threading
from ipaddress import ip_address
from pathlib import Path

import pytest

from hub.fetching.addresses import Address
from hub.fetching.errors import FetchFailed
from hub.fetching.lookups import HostsFile, ThreadedLookup, resolve_by_system
from stores.read_turns import READER
from tests.support.hub import eventually

HERE = [ip_address("127.0.0.1")]


class Held:
    """A resolver that answers when it is let go."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.asked: list[str] = []

    def __call__(self, host: str) -> list[Address]:
        self.asked.append(host)
        assert self.go_on.wait(60)
        return HERE

    async def has_asked(self, times: int) -> bool:
        return len(self.asked) >= times


async def test_the_system_knows_this_machine() -> None:
    assert set(await ThreadedLookup(resolve_by_system)("localhost")) <= {ip_address("127.0.0.1"), ip_address("::1")}


async def test_a_name_that_is_unknown_has_no_address() -> None:
    with pytest.raises(FetchFailed, match=r"nothing\.invalid has no address"):
        await ThreadedLookup(resolve_by_system)("nothing.invalid")


async def test_a_hosts_file_is_read_anew_each_time(tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    file.write_text(
        "# of the tests\n\n93.184.216.34 Images.test other.test # not.test\n\t::1\tsix.test\n"
        "::ffff:10.0.0.1 images.test\n"
        "nonsense odd.test\n300.0.0.1 odd.test\n0x7f000001 hex.test\n2130706433 decimal.test\n017700000001 octal.test\n"
        "127.1 short.test\n"
    )
    lookup = ThreadedLookup(HostsFile(file))
    assert await lookup("images.test") == [ip_address("93.184.216.34"), ip_address("::ffff:10.0.0.1")]
    assert await lookup("other.test") == [ip_address("93.184.216.34")]
    assert await lookup("six.test") == [ip_address("::1")]
    for name in ("hex", "decimal", "octal", "short"):
        assert await lookup(f"{name}.test") == HERE
    for name in ("not.test", "odd.test", "localhost", "test", "images.test.example"):
        assert await lookup(name) == []
    file.write_text("127.0.0.1 images.test\n")
    assert await lookup("images.test") == HERE


async def test_without_the_file_no_host_is_found(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(FetchFailed, match=r"images\.test has no address"):
        await ThreadedLookup(HostsFile(tmp_path / "hosts"))("images.test")
    assert "HUB_FETCH_HOSTS" in caplog.text


async def test_lookups_of_one_name_share_a_thread() -> None:
    held = Held()
    lookup = ThreadedLookup(held, most=1)
    asked = [asyncio.ensure_future(lookup("a.test")) for _ in range(20)]
    await eventually(lambda: held.has_asked(1))
    held.go_on.set()
    assert await asyncio.gather(*asked) == [HERE] * 20
    assert held.asked == ["a.test"]


async def test_lookups_beyond_the_limit_wait() -> None:
    """No user has more than a quarter of the threads."""
    held = Held()
    lookup = ThreadedLookup(held, most=8)
    asked = [asyncio.ensure_future(lookup(f"{name}.test")) for name in "abcd"]
    await eventually(lambda: held.has_asked(2))
    await asyncio.sleep(0.05)
    assert held.asked == ["a.test", "b.test"]
    reader = READER.set("somebody else")
    asked.append(asyncio.ensure_future(lookup("e.test")))
    READER.reset(reader)
    await eventually(lambda: held.has_asked(3))
    held.go_on.set()
    assert await asyncio.gather(*asked) == [HERE] * 5


async def test_a_lookup_that_nobody_waits_for_still_counts() -> None:
    """The thread goes on, so a caller that has left makes no room; nor does one that left while it waited for room."""
    held = Held()
    lookup = ThreadedLookup(held, most=1)
    for name in ("a.test", "a.test", "b.test"):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await lookup(name)
    assert held.asked == ["a.test"]
    held.go_on.set()
    assert await lookup("c.test") == HERE
    assert held.asked == ["a.test", "c.test"]


async def test_an_unexpected_failure_makes_room() -> None:
    def fail(host: str) -> list[Address]:
        raise UnicodeError(host)

    lookup = ThreadedLookup(fail, most=1)
    for _ in range(2):
        with pytest.raises(FetchFailed, match="no address"):
            await lookup("a.test")
