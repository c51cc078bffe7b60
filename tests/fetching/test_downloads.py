"""Downloads from real servers: what arrives, and what is refused before anything is sent."""

from __future__ import annotations

import asyncio
import gzip
import io
import zlib
from pathlib import Path

import pytest

from hub.fetch import MOST_ADDRESSES, MOST_REDIRECTS, AnswerTooLarge, Fetched, FetchFailed, FetchRefused
from hub.fetching.addresses import Address
from hub.fetching.connecting import MOST_ANSWER_HEAD_BYTES
from hub.fetching.lookups import HostsFile, ThreadedLookup
from tests.fetching.servers import (
    Handle,
    Names,
    answer_of,
    downloaded,
    fetcher,
    redirect_to,
    repeating,
    saying,
    serving,
)
from tests.fetching.spellings import LITERALS, ODD

ENDLESS = b"HTTP/1.1 200 OK\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_a_download_arrives_with_its_type() -> None:
    body = bytes(range(256)) * 4_000
    async with serving(saying(answer_of(body, "Content-Type: Image/PNG; charset=x"))) as server:
        url, target = f"http://images.test:{server.port}/a/b.png?c=d", io.BytesIO()
        lookup = Names(images="127.0.0.1")
        fetched = await fetcher(lookup, f"images.test:{server.port}").download(url + "#e", target, len(body))
    assert fetched == Fetched("image/png", len(body), url)
    assert target.getvalue() == body
    assert lookup.asked == ["images.test"]


async def test_a_request_says_nothing_about_its_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the environment's proxy nor its .netrc is used, and cookies are not kept."""
    (tmp_path / ".netrc").write_text("default login ann password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    answer = answer_of(b"x", "Set-Cookie: a=b; Path=/")
    async with serving(saying(answer)) as server, serving(saying(answer)) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        one = fetcher(Names(images="127.0.0.1"), f"images.test:{server.port}")
        for _ in range(2):
            await downloaded(one, f"http://images.test:{server.port}/")
    assert proxy.connections == 0
    expected = {"host": f"images.test:{server.port}", "user-agent": "hub", "accept": "*/*"} | {
        "accept-encoding": "identity", "connection": "close",
    }  # fmt: skip
    for head in server.heads:
        lines = head.decode().lower().split("\r\n")[1:]
        assert dict(line.split(": ", 1) for line in filter(None, lines)) == expected


@pytest.mark.parametrize("host", [*LITERALS, *ODD])
async def test_no_address_is_fetched_from(host: str) -> None:
    """Even where everything is allowed."""
    async with serving(saying(answer_of(b"secret"))) as server:
        lookup = Names()
        with pytest.raises(FetchRefused):
            await downloaded(fetcher(lookup, "0.0.0.0/0", "::/0", ports=[server.port]), f"http://{host}:{server.port}/")
        assert (lookup.asked, server.connections) == ([], 0)


@pytest.mark.parametrize("host", ODD)
async def test_an_odd_spelling_is_refused_without_strict_too(host: str) -> None:
    with pytest.raises(FetchRefused):
        await downloaded(fetcher(Names(), "0.0.0.0/0", "::/0"), f"http://{host}/", strict=False)


async def test_an_address_is_fetched_from_without_strict() -> None:
    async with serving(saying(answer_of(b"found"))) as server:
        url = f"http://127.0.0.1:{server.port}/"
        assert await downloaded(fetcher(Names(), f"127.0.0.1:{server.port}"), url, strict=False) == b"found"
        with pytest.raises(FetchRefused, match="not a public host"):
            await downloaded(fetcher(Names(), ports=[server.port]), url, strict=False)


PRIVATE = (
    "127.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1", "0x7f000001", "2130706433", "017700000001", "127.1",
    "0.0.0.0", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::1", "fe80::1%lo", "::", "224.0.0.1",
)  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
async def test_a_name_of_what_is_not_public_is_refused(address: str, tmp_path: Path) -> None:
    """Alone, and beside a public address; and as the target of a redirect."""
    (tmp_path / "hosts").write_text(
        f"{address} inner.test both.test\n8.8.8.8 both.test\n127.0.0.2 images.test\n", encoding="utf-8"
    )
    lookup = ThreadedLookup(HostsFile(tmp_path / "hosts"))
    async with serving(saying(answer_of(b"secret"))) as inner, serving(_redirecting(inner.port), "127.0.0.2") as outer:
        one = fetcher(lookup, f"images.test:{outer.port}", ports=[inner.port])
        for url in (
            f"http://inner.test:{inner.port}/",
            f"http://both.test:{inner.port}/",
            f"http://images.test:{outer.port}/",
        ):
            with pytest.raises(FetchRefused, match=r"(inner|both)\.test is not a public host"):
                await downloaded(one, url)
        assert (inner.connections, outer.connections) == (0, 1)


def _redirecting(port: int) -> Handle:
    return saying(redirect_to(f"http://inner.test:{port}/"))


@pytest.mark.parametrize("host", [*LITERALS, *(host for host in ODD if host.isascii())])
async def test_a_redirect_to_an_address_is_refused(host: str) -> None:
    async with serving(saying(answer_of(b"secret"))) as inner:
        location = f"http://{host}:{inner.port}/"
        async with serving(saying(redirect_to("x").replace(b": x", b": " + location.encode()))) as outer:
            one = fetcher(Names(images="127.0.0.1"), f"images.test:{outer.port}", "0.0.0.0/0", "::/0")
            with pytest.raises(FetchRefused):
                await downloaded(one, f"http://images.test:{outer.port}/")
        assert (inner.connections, outer.connections) == (0, 1)


async def test_the_connection_goes_to_the_address_that_was_checked() -> None:
    """A name that means an allowed address while it is checked, and another one when it is asked for again: the
    connection goes to the first, and a redirect to the name is checked anew."""
    async with serving(saying(redirect_to("/again")), "127.0.0.2") as allowed:
        async with serving(saying(answer_of(b"secret")), "127.0.0.1", allowed.port) as other:
            lookup = Names(images=["127.0.0.2", "127.0.0.1"])
            with pytest.raises(FetchRefused, match=r"images\.test is not a public host"):
                await downloaded(
                    fetcher(lookup, "127.0.0.2", ports=[allowed.port]), f"http://images.test:{allowed.port}/"
                )
        assert (allowed.paths, other.connections, len(lookup.asked)) == (["/"], 0, 2)


async def test_a_rebound_name_is_not_followed() -> None:
    async with serving(saying(answer_of(b"public")), "127.0.0.2") as allowed:
        async with serving(saying(answer_of(b"secret")), "127.0.0.1", allowed.port) as other:
            lookup = Names(images=["127.0.0.2", "127.0.0.1"])
            one = fetcher(lookup, "127.0.0.2", ports=[allowed.port])
            assert await downloaded(one, f"http://images.test:{allowed.port}/") == b"public"
        assert (other.connections, len(lookup.asked)) == (0, 1)


async def test_the_next_address_is_tried() -> None:
    async with serving(saying(answer_of(b"found")), "127.0.0.3") as server:
        lookup = Names(images="127.0.0.2 ::1 127.0.0.3")
        one = fetcher(lookup, f"images.test:{server.port}")
        assert await downloaded(one, f"http://images.test:{server.port}/") == b"found"


@pytest.mark.parametrize("port", [22, 25, 6379, 8080, 27017])
async def test_a_port_that_is_not_listed_is_refused(port: int) -> None:
    with pytest.raises(FetchRefused, match=f"port {port} of images.test"):
        await downloaded(fetcher(Names(images="8.8.8.8")), f"http://images.test:{port}/")


async def test_redirects_are_followed_and_counted() -> None:
    async def handle(head: bytes, writer: asyncio.StreamWriter) -> None:
        left = int(head.split()[1].removeprefix(b"/"))
        status = ("301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent")[left % 5]
        writer.write(redirect_to(f"/{left - 1}", status) if left else answer_of(b"end"))

    async with serving(handle) as server:
        one = fetcher(Names(images="127.0.0.1"), f"images.test:{server.port}")
        url = f"http://images.test:{server.port}"
        assert await downloaded(one, f"{url}/{MOST_REDIRECTS}") == b"end"
        assert server.connections == MOST_REDIRECTS + 1
        with pytest.raises(FetchFailed, match="too often"):
            await downloaded(one, f"{url}/{MOST_REDIRECTS + 1}")
        assert server.connections == 2 * (MOST_REDIRECTS + 1)


async def test_the_url_of_a_download_is_that_of_the_last_redirect() -> None:
    async with (
        serving(saying(answer_of(b"x")), "127.0.0.2") as end,
        serving(saying(redirect_to(f"http://other.test:{end.port}/b?c#d"))) as begin,
    ):
        lookup = Names(images="127.0.0.1", other="127.0.0.2")
        one = fetcher(lookup, f"images.test:{begin.port}", f"other.test:{end.port}")
        fetched = await one.download(f"http://images.test:{begin.port}/a", io.BytesIO(), 10)
    assert fetched.url == f"http://other.test:{end.port}/b?c"


@pytest.mark.parametrize(
    ("answer", "reason", "status"),
    [
        (answer_of(b"", status="404 Not Found"), "status 404", 404),
        (answer_of(b"", status="500 Oh"), "status 500", 500),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "status 204", 204),
        (answer_of(b"", status="302 Found"), "status 302", 302),
        (answer_of(b"", "Location: /x", status="304 Not Modified"), "status 304", 304),
        (b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", "another protocol|in HTTP", None),
        (b"", "broke off|in HTTP", None),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "in HTTP", None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "in HTTP|broke off", None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", "in HTTP", None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5_000 + b"\r\n\r\nabc", "in HTTP|exceeds", None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nabc", "in HTTP", None),
        (CHUNKED + b"xyz\r\nabc\r\n", "in HTTP", None),
        (CHUNKED + b"3\r\nabc\r\n", "in HTTP|broke off", None),
    ],
)  # fmt: skip
async def test_other_answers_fail(answer: bytes, reason: str, status: int | None) -> None:
    async with serving(saying(answer)) as server:
        with pytest.raises(FetchFailed, match=reason) as caught:
            await downloaded(
                fetcher(Names(images="127.0.0.1"), f"images.test:{server.port}"), f"http://images.test:{server.port}/"
            )
    if status is not None:
        assert caught.value.status == status


@pytest.mark.parametrize(
    "handle",
    [
        saying(answer_of(b"x" * 1_001)),
        saying(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n"),
        repeating(ENDLESS, b"x" * 10_000),
        repeating(CHUNKED, b"1\r\nx\r\n" * 1_000),
        repeating(CHUNKED, b"1;" + b"x" * 1_000 + b"\r\nx\r\n"),
    ],
    ids=["long", "announced", "endless", "in-chunks", "with-extensions"],
)
async def test_a_body_beyond_the_limit_is_broken_off(handle: Handle) -> None:
    target = io.BytesIO()
    async with serving(handle) as server:
        one = fetcher(Names(images="127.0.0.1"), f"images.test:{server.port}")
        with pytest.raises(AnswerTooLarge, match="1000 bytes") as caught:
            await one.download(f"http://images.test:{server.port}/", target, 1_000)
    assert caught.value.status == 200
    assert len(target.getvalue()) <= 1_000


async def test_a_body_of_just_the_limit_arrives() -> None:
    body = b"x" * 1_000
    for answer in (answer_of(body), ENDLESS + body, CHUNKED + b"3e8\r\n" + body + b"\r\n0\r\n\r\n"):
        async with serving(saying(answer)) as server:
            one = fetcher(Names(images="127.0.0.1"), f"images.test:{server.port}")
            assert await downloaded(one, f"http://images.test:{server.port}/", 1_000) == body


@pytest.mark.parametrize(
    "coding",
    [
        "gzip",
        "deflate",
        "br",
        "zstd",
        "identity, gzip",
        "aws-chunked,gzip",
        "x-gzip",
        "GZIP",
        "identity\r\nContent-Encoding: gzip",
    ],
)
async def test_a_compressed_body_is_refused(coding: str) -> None:
    """Whatever its size is: what it becomes may be a thousand times as much."""
    packed = gzip.compress(b"x" * 100_000) if "gzip" in coding.lower() else zlib.compress(b"x" * 100_000)
    async with serving(saying(answer_of(packed, f"Content-Encoding: {coding}"))) as server:
        one = fetcher(Names(images="127.0.0.1"), f"images.test:{server.port}")
        with pytest.raises(FetchFailed, match="compresses"):
            await downloaded(one, f"http://images.test:{server.port}/")


@pytest.mark.parametrize("coding", ["Identity", "aws-chunked"])
async def test_a_body_said_not_to_be_compressed_arrives(coding: str) -> None:
    async with serving(saying(answer_of(b"x", f"Content-Encoding: {coding}"))) as server:
        one = fetcher(Names(images="127.0.0.1"), f"images.test:{server.port}")
        assert await downloaded(one, f"http://images.test:{server.port}/") == b"x"


@pytest.mark.parametrize(
    "handle",
    [
        repeating(b"", b"", 0.01),
        repeating(b"HTTP/1.1 200 OK\r\n", b"x", 0.01),
        repeating(answer_of(b"")[:-2] + b"X: ", b"x", 0.01),
        repeating(ENDLESS, b"x", 0.01),
        repeating(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"x", 0.01),
        repeating(CHUNKED, b"1\r\nx\r\n", 0.01),
        repeating(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.01),
    ],
    ids=["silent", "slow-head", "slow-header", "slow-body", "slow-length", "slow-chunks", "interim"],
)
async def test_an_answer_that_does_not_end_is_broken_off(handle: Handle) -> None:
    async with serving(handle) as server:
        one = fetcher(Names(images="127.0.0.1"), f"images.test:{server.port}", seconds=0.3)
        with pytest.raises(FetchFailed, match=r"images\.test did not answer within 0\.3 s"):
            await downloaded(one, f"http://images.test:{server.port}/")


@pytest.mark.parametrize(
    "handle",
    [
        repeating(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
        repeating(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 100),
        repeating(b"HTTP/1.1 200 OK\r\nX: ", b"y" * 1_000),
    ],
    ids=["interim-answers", "headers", "header"],
)
async def test_an_endless_head_is_broken_off(handle: Handle) -> None:
    async with serving(handle) as server:
        one = fetcher(Names(images="127.0.0.1"), f"images.test:{server.port}")
        with pytest.raises(FetchFailed, match="in HTTP"):
            await downloaded(one, f"http://images.test:{server.port}/")


async def test_a_large_head_within_the_limit_arrives() -> None:
    header = "X: " + "y" * (MOST_ANSWER_HEAD_BYTES - 1_000)
    async with serving(saying(answer_of(b"x" * 100_000, header))) as server:
        one = fetcher(Names(images="127.0.0.1"), f"images.test:{server.port}")
        assert len(await downloaded(one, f"http://images.test:{server.port}/")) == 100_000


async def test_the_time_of_all_redirects_counts() -> None:
    async def handle(head: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.1)
        writer.write(redirect_to("/"))

    async with serving(handle) as server:
        one = fetcher(Names(images="127.0.0.1"), f"images.test:{server.port}", seconds=0.35)
        with pytest.raises(FetchFailed, match=r"within 0\.35 s"):
            await downloaded(one, f"http://images.test:{server.port}/")


async def test_a_name_that_is_not_found_in_time_fails() -> None:
    async def never(host: str) -> list[Address]:
        await asyncio.Event().wait()
        return []

    with pytest.raises(FetchFailed, match=r"images\.test was not found within 0\.05 s"):
        await downloaded(fetcher(never, connect_seconds=0.05), "http://images.test/")


async def test_a_name_without_an_address_fails() -> None:
    with pytest.raises(FetchFailed, match=r"images\.test has no address"):
        await downloaded(fetcher(Names()), "http://images.test/")


async def test_a_name_with_too_many_addresses_fails() -> None:
    async with serving(saying(answer_of(b"found"))) as server:
        for more, failure in ((MOST_ADDRESSES - 1, None), (MOST_ADDRESSES, "too many addresses")):
            lookup = Names(images="127.0.0.1" + " 127.0.0.2" * more)
            one = fetcher(lookup, f"images.test:{server.port}")
            if failure is None:
                assert await downloaded(one, f"http://images.test:{server.port}/") == b"found"
            else:
                with pytest.raises(FetchFailed, match=failure):
                    await downloaded(one, f"http://images.test:{server.port}/")


async def test_a_server_that_is_not_there_fails() -> None:
    async with serving(saying(b"")) as server:
        pass
    one = fetcher(Names(images="127.0.0.1"), f"images.test:{server.port}")
    with pytest.raises(FetchFailed, match=r"images\.test cannot be reached"):
        await downloaded(one, f"http://images.test:{server.port}/")


async def test_a_target_that_cannot_be_written_is_the_callers_error(tmp_path: Path) -> None:
    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(28, "No space left on device")

    async with serving(repeating(ENDLESS, b"x" * 10_000)) as server:
        one = fetcher(Names(images="127.0.0.1"), f"images.test:{server.port}")
        with pytest.raises(OSError, match="No space left"):
            await one.download(f"http://images.test:{server.port}/", Full(), 1_000_000)


async def test_the_log_names_addresses_but_no_query(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with pytest.raises(FetchRefused) as caught:
        await downloaded(fetcher(Names(images="10.0.0.7")), "http://images.test/path?token=secret")
    assert "10.0.0.7" in caplog.text
    assert "secret" not in caplog.text
    assert "10.0.0.7" not in str(caught.value)
