"""Certificates are checked against the host of the URL, whatever address the connection goes to."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.fetch import FetchFailed, FetchRefused
from tests.fetching.servers import (
    Authority,
    Names,
    answer_of,
    downloaded,
    fetcher,
    redirect_to,
    repeating,
    saying,
    serving,
)

FOUND = saying(answer_of(b"found"))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def test_the_name_of_the_url_is_sent_and_checked(authority: Authority) -> None:
    async with serving(FOUND, tls=authority.server("images.test")) as server:
        one = fetcher(Names(images="127.0.0.1"), f"images.test:{server.port}", tls=authority.client())
        assert await downloaded(one, f"https://IMAGES.test.:{server.port}/") == b"found"
    assert server.names == ["images.test"]
    assert f"host: images.test:{server.port}\r\n".encode() in server.heads[0].lower()


@pytest.mark.parametrize("names", [("other.test",), ("127.0.0.1",), ("*.images.test",), ("xn--images.test",)])
async def test_a_certificate_of_another_name_is_refused(authority: Authority, names: tuple[str, ...]) -> None:
    async with serving(FOUND, tls=authority.server(*names)) as server:
        one = fetcher(Names(images="127.0.0.1"), f"images.test:{server.port}", tls=authority.client())
        with pytest.raises(FetchFailed, match=r"certificate of images\.test is not valid: Hostname mismatch"):
            await downloaded(one, f"https://images.test:{server.port}/")
    assert server.heads == []


async def test_a_certificate_that_has_expired_is_refused(authority: Authority) -> None:
    async with serving(FOUND, tls=authority.server("images.test", days=-1)) as server:
        one = fetcher(Names(images="127.0.0.1"), f"images.test:{server.port}", tls=authority.client())
        with pytest.raises(FetchFailed, match="certificate has expired"):
            await downloaded(one, f"https://images.test:{server.port}/")


async def test_an_unknown_authority_is_refused(authority: Authority) -> None:
    """By default, those of the system are known."""
    async with serving(FOUND, tls=authority.server("images.test")) as server:
        one = fetcher(Names(images="127.0.0.1"), f"images.test:{server.port}")
        with pytest.raises(FetchFailed, match="unable to get local issuer certificate"):
            await downloaded(one, f"https://images.test:{server.port}/")


async def test_the_authorities_of_the_environment_are_known(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    async with serving(FOUND, tls=authority.server("images.test")) as server:
        one = fetcher(Names(images="127.0.0.1"), f"images.test:{server.port}")
        assert await downloaded(one, f"https://images.test:{server.port}/") == b"found"


async def test_a_certificate_may_name_an_address(authority: Authority) -> None:
    async with serving(FOUND, tls=authority.server("127.0.0.1")) as server:
        one = fetcher(Names(), f"127.0.0.1:{server.port}", tls=authority.client())
        answer = await one.request("GET", f"https://127.0.0.1:{server.port}/", seconds=20)
    assert answer.content == b"found"


async def test_a_redirect_does_not_lead_to_plain_http(authority: Authority) -> None:
    async with serving(FOUND) as plain:
        answer = redirect_to(f"http://images.test:{plain.port}/")
        async with serving(saying(answer), tls=authority.server("images.test")) as server:
            allowed = [f"images.test:{each.port}" for each in (plain, server)]
            one = fetcher(Names(images="127.0.0.1"), *allowed, tls=authority.client())
            with pytest.raises(FetchRefused, match="redirects from https to http"):
                await downloaded(one, f"https://images.test:{server.port}/")
    assert plain.connections == 0


async def test_a_server_without_tls_is_refused() -> None:
    async with serving(saying(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as server:
        one = fetcher(Names(images="127.0.0.1"), f"images.test:{server.port}", seconds=0.5)
        with pytest.raises(FetchFailed):
            await downloaded(one, f"https://images.test:{server.port}/")


async def test_a_handshake_that_does_not_end_is_broken_off() -> None:
    async with serving(repeating(b"", b"", 0.01)) as server:
        one = fetcher(Names(images="127.0.0.1"), f"images.test:{server.port}", connect_seconds=0.3)
        with pytest.raises(FetchFailed, match=r"images\.test cannot be reached"):
            await downloaded(one, f"https://images.test:{server.port}/")


async def test_what_is_sent_before_the_end_of_a_large_body_arrives(authority: Authority) -> None:
    body = bytes(range(256)) * 20_000
    async with serving(saying(answer_of(body)), tls=authority.server("images.test")) as server:
        one = fetcher(Names(images="127.0.0.1"), f"images.test:{server.port}", tls=authority.client())
        assert await downloaded(one, f"https://images.test:{server.port}/", len(body)) == body
