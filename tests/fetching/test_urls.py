"""URLs are parsed strictly, and an address is known in every spelling."""

from __future__ import annotations

import pytest

from hub.fetching.errors import FetchRefused
from hub.fetching.urls import MOST_URL_LENGTH, parse_url, redirected
from tests.fetching.spellings import LITERALS, ODD


@pytest.mark.parametrize("host", LITERALS)
def test_an_address_is_known_as_one(host: str) -> None:
    target = parse_url(f"https://{host}/")
    assert target.address is not None
    assert target.host == str(target.address)


@pytest.mark.parametrize("host", ODD)
def test_an_odd_spelling_is_refused(host: str) -> None:
    with pytest.raises(FetchRefused):
        parse_url(f"https://{host}/")


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("https://example.com", "https://example.com/"),
        ("HTTPS://EXAMPLE.com:443?q", "https://example.com/?q"),
        ("http://example.com:80/a/../b;c?d=e&f=%20#g", "http://example.com/a/../b;c?d=e&f=%20"),
        ("http://example.com.:8080/", "http://example.com:8080/"),
        ("http://example.com:/", "http://example.com/"),
        ("http://example.com:0080/", "http://example.com/"),
        ("https://bücher.example/ä?ö=ü", "https://xn--bcher-kva.example/%C3%A4?%C3%B6=%C3%BC"),
        ("https://BÜCHER.example/", "https://xn--bcher-kva.example/"),
        ("https://xn--bcher-kva.example/", "https://xn--bcher-kva.example/"),
        ("https://a_b.example/<\"^`{|}>", "https://a_b.example/%3C%22%5E%60%7B%7C%7D%3E"),
        ("https://127.0.0.1.nip.example/", "https://127.0.0.1.nip.example/"),
        ("https://localhost/", "https://localhost/"),
        ("https://[2606:4700:4700:0::1111]:8443/", "https://[2606:4700:4700::1111]:8443/"),
        ("https://example.com/@user:password@", "https://example.com/@user:password@"),
        ("https://0x7f.example/", "https://0x7f.example/"),
        ("https://3com.example1/", "https://3com.example1/"),
    ],
)  # fmt: skip
def test_a_url(text: str, result: str) -> None:
    assert str(parse_url(text)) == result


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not a URL"),
        ("example.com", "not a URL"),
        ("//example.com/", "not a URL"),
        ("https:example.com", "not a URL"),
        ("https:/example.com", "not a URL"),
        ("https://", "not a name"),
        ("https:///path", "not a name"),
        ("https://:443/", "not a name"),
        ("ftp://example.com/", "https:// or http://"),
        ("file:///etc/passwd", "https:// or http://"),
        ("gopher://example.com/", "https:// or http://"),
        ("https://user@example.com/", "user or password"),
        ("https://user:password@example.com/", "user or password"),
        ("https://example.com@127.0.0.1/", "user or password"),
        ("https://@example.com/", "user or password"),
        ("https://example.com:0/", "port"),
        ("https://example.com:65536/", "port"),
        ("https://example.com:4a/", "not a name"),
        ("https://example.com:+80/", "not a name"),
        ("https://example.com:80:90/", "not a name"),
        ("https://example.com:\uff18\uff10/", "not a name"),
        ("https://exa mple.com/", "not a URL"),
        (" https://example.com/", "not a URL"),
        ("https://example.com/ ", "not a URL"),
        ("https://example.com/a b", "not a URL"),
        ("https://example.com/\r\nX: y", "not a URL"),
        ("https://example.com/\0", "not a URL"),
        ("https://exa\tmple.com/", "not a URL"),
        ("https://example.com\\@127.0.0.1/", "not a URL"),
        ("https:\\\\127.0.0.1/", "not a URL"),
        ("https://example..com/", "not a name"),
        ("https://.example.com/", "not a name"),
        ("https://example.com../", "not a name"),
        ("https://exam%70le.com/", "not a name"),
        ("https://example.com,other.com/", "not a name"),
        ("https://" + "a" * 64 + ".example/", "not a name"),
        ("https://" + "a." * 130 + "example/", "not a name"),
        ("https://" + "ü" * 300 + ".example/", "not a name"),
        ("https://\u2603.example/", "not a name"),
        ("https://a\u2044b.example/", "not a name"),
        ("https://example.com/\ud800", "not Unicode"),
        ("https://example.com/" + "a" * MOST_URL_LENGTH, "exceed"),
    ],
)  # fmt: skip
def test_what_is_refused(text: str, reason: str) -> None:
    with pytest.raises(FetchRefused, match=reason):
        parse_url(text)


@pytest.mark.parametrize(
    ("location", "result"),
    [
        ("/b", "https://example.com/b"),
        ("c?d", "https://example.com/a/c?d"),
        ("?d", "https://example.com/a/b?d"),
        ("//other.example/", "https://other.example/"),
        ("https://OTHER.example:8443", "https://other.example:8443/"),
        ("/ü", "https://example.com/%C3%BC"),
        ("/front view.jpg?a b", "https://example.com/front%20view.jpg?a%20b"),
        ("", "https://example.com/a/b"),
    ],
)
def test_where_a_redirect_leads(location: str, result: str) -> None:
    assert str(redirected(parse_url("https://example.com/a/b"), location)) == result


@pytest.mark.parametrize(
    "location",
    [
        "http://example.com/",
        "http://other.example/",
        "ftp://example.com/",
        "javascript:alert(1)",
        "//user@example.com/",
        "https://[",
        "https://exa\tmple.com/",
        "/\\example.com/",
        "//127.1/",
        "https://exa mple.com/",
        *(f"https://{host}/" for host in ODD),
    ],
)
def test_where_a_redirect_must_not_lead(location: str) -> None:
    with pytest.raises(FetchRefused):
        redirected(parse_url("https://example.com/"), location)


def test_a_redirect_may_lead_from_http_to_https() -> None:
    assert redirected(parse_url("http://example.com/"), "https://example.com/").scheme == "https"
