"""Requests of webhooks and connectors: any method and status, and what redirects get."""

from __future__ import annotations

import asyncio

import pytest

from hub.fetch import AnswerTooLarge, FetchFailed, FetchRefused
from tests.fetching.servers import Names, answer_of, fetcher, redirect_to, repeating, saying, serving


async def echo(head: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(answer_of(head, "Set-Cookie: a=b", "Set-Cookie: c=d", status="201 Created"))


async def test_a_request_is_sent_and_any_answer_returned() -> None:
    async with serving(echo) as server:
        one = fetcher(Names(crm="127.0.0.1"), f"crm.test:{server.port}")
        url = f"http://crm.test:{server.port}/leads?x=y"
        headers = {"Content-Type": "application/json", "webhook-id": "7", "Accept": "application/json"}
        answer = await one.request("PATCH", url, headers=headers, content=b"{}", seconds=20)
    assert (answer.status, answer.url) == (201, url)
    assert answer.headers.getlist("set-cookie") == ["a=b", "c=d"]
    lines = answer.content.decode().split("\r\n")
    assert lines[0] == "PATCH /leads?x=y HTTP/1.1"
    sent = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
    assert sent["content-length"] == "2"
    assert sent["webhook-id"] == "7"
    assert sent["accept"] == "application/json"
    assert sent["user-agent"] == "hub"
    assert len(sent) == len([line for line in lines[1:] if line])


async def test_the_body_is_sent() -> None:
    bodies = []

    async def handle(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(answer_of(b"ok"))

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        bodies.append(await reader.readexactly(1_000_000))
        await handle(b"", writer)
        writer.close()

    listening = await asyncio.start_server(receive, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    try:
        content = bytes(range(250)) * 4_000
        await fetcher(Names(), f"127.0.0.1:{port}").request(
            "POST", f"http://127.0.0.1:{port}/", content=content, seconds=20
        )
    finally:
        listening.close()
    assert bodies == [content]


@pytest.mark.parametrize(("method", "sent"), [("POST", True), ("PUT", True), ("GET", False), ("DELETE", False)])
async def test_a_request_without_a_body_tells_its_length_where_one_is_expected(method: str, sent: bool) -> None:
    async with serving(echo) as server:
        one = fetcher(Names(), f"127.0.0.1:{server.port}")
        answer = await one.request(method, f"http://127.0.0.1:{server.port}/", seconds=20)
    assert (b"content-length: 0" in answer.content.lower()) == sent


async def test_a_redirect_is_an_answer() -> None:
    async with serving(saying(redirect_to("http://10.0.0.1/"))) as server:
        one = fetcher(Names(), f"127.0.0.1:{server.port}")
        answer = await one.request("POST", f"http://127.0.0.1:{server.port}/", content=b"", seconds=20)
    assert (answer.status, answer.headers["location"]) == (302, "http://10.0.0.1/")
    assert server.connections == 1


async def test_another_server_gets_no_headers_of_the_caller() -> None:
    """Neither credentials nor signatures; the same server at the same port keeps them."""
    headers = {"Authorization": "Bearer x", "X-Key": "y", "Cookie": "z", "Accept": "text/x"}
    async with serving(echo, "127.0.0.2") as other, serving(saying(redirect_to(f"http://o.test:{other.port}/"))) as one:
        both = fetcher(Names(a="127.0.0.1", o="127.0.0.2"), f"a.test:{one.port}", f"o.test:{other.port}")
        answer = await both.request("GET", f"http://a.test:{one.port}/", headers=headers, seconds=20, follow=1)
    sent = answer.content.decode().lower()
    assert "accept: text/x" in sent
    assert not any(name.lower() in sent for name in ("authorization", "x-key", "cookie"))
    assert b"bearer x" in one.heads[0].lower()


async def test_the_same_server_keeps_the_headers() -> None:
    async def handle(head: bytes, writer: asyncio.StreamWriter) -> None:
        if head.startswith(b"GET /a"):
            writer.write(redirect_to("/b"))
        else:
            await echo(head, writer)

    async with serving(handle) as server:
        one = fetcher(Names(), f"127.0.0.1:{server.port}")
        url = f"http://127.0.0.1:{server.port}/a"
        answer = await one.request("GET", url, headers={"Authorization": "Bearer x"}, seconds=20, follow=3)
    assert b"bearer x" in answer.content.lower()
    assert answer.url.endswith("/b")


async def test_redirects_beyond_those_to_follow_fail() -> None:
    async with serving(saying(redirect_to("/again"))) as server:
        one = fetcher(Names(), f"127.0.0.1:{server.port}")
        with pytest.raises(FetchFailed, match="too often"):
            await one.request("GET", f"http://127.0.0.1:{server.port}/", seconds=20, follow=2)
    assert server.connections == 3


async def test_a_redirect_to_what_is_not_allowed_is_refused() -> None:
    async with serving(saying(redirect_to("http://169.254.169.254/latest/"))) as server:
        one = fetcher(Names(), f"127.0.0.1:{server.port}")
        with pytest.raises(FetchRefused, match=r"169\.254\.169\.254 is not a public host"):
            await one.request("GET", f"http://127.0.0.1:{server.port}/", seconds=20, follow=2)


async def test_head_has_no_body() -> None:
    async with serving(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")) as server:
        one = fetcher(Names(), f"127.0.0.1:{server.port}")
        assert (await one.request("HEAD", f"http://127.0.0.1:{server.port}/", seconds=20)).content == b""


async def test_an_answer_beyond_the_limit_tells_its_status() -> None:
    async with serving(repeating(b"HTTP/1.1 202 Accepted\r\n\r\n", b"x" * 1_000)) as server:
        one = fetcher(Names(), f"127.0.0.1:{server.port}")
        with pytest.raises(AnswerTooLarge, match="5000 bytes") as caught:
            await one.request("POST", f"http://127.0.0.1:{server.port}/", content=b"", seconds=20, most_bytes=5_000)
    assert caught.value.status == 202


async def test_the_time_is_the_callers() -> None:
    async with serving(repeating(b"", b"")) as server:
        one = fetcher(Names(), f"127.0.0.1:{server.port}")
        with pytest.raises(FetchFailed, match=r"within 0\.1 s"):
            await one.request("POST", f"http://127.0.0.1:{server.port}/", content=b"", seconds=0.1)


@pytest.mark.parametrize("name", ["Host", "content-length", "Transfer-Encoding", "Accept-Encoding", "CONNECTION"])
async def test_headers_that_the_fetcher_sets_cannot_be_given(name: str) -> None:
    with pytest.raises(ValueError, match=f"the fetcher itself sets {name.lower()}"):
        await fetcher(Names()).request("GET", "http://crm.test/", headers={name: "x"}, seconds=1)


@pytest.mark.parametrize(("name", "value"), [("X", "a\r\nY: b"), ("X\r\nY", "a"), ("X", "a\0"), ("", "a")])
async def test_a_header_that_is_none_is_not_sent(name: str, value: str) -> None:
    async with serving(echo) as server:
        one = fetcher(Names(), f"127.0.0.1:{server.port}")
        with pytest.raises(ValueError, match="cannot be sent"):
            await one.request("GET", f"http://127.0.0.1:{server.port}/", headers={name: value}, seconds=20)
        assert server.heads == []


async def test_only_requests_that_change_nothing_follow_redirects() -> None:
    with pytest.raises(ValueError, match="not followed"):
        await fetcher(Names()).request("POST", "http://crm.test/", content=b"", seconds=1, follow=1)
