"""URLs to fetch, parsed strictly: whatever two parsers might read differently is refused.

The parsed value alone is used from here on, for the checks, the connection, the certificate and the Host header.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Annotated, Final
from urllib.parse import quote, urljoin

import idna

from hub.fetching.addresses import Address
from hub.fetching.errors import FetchRefused
from stores.bounds import Limit

MOST_URL_LENGTH: Final[Annotated[int, Limit("URL to fetch", "characters", "refused")]] = 8_192

_LONGEST_HOST: Final = 253
_PORTS: Final = {"http": 80, "https": 443}
# WHATWG reads a backslash as a slash, and drops tabs and line ends.
_AMBIGUOUS: Final = re.compile(r"[\x00-\x20\x7f-\xa0\\]")
_URL: Final = re.compile(r"(?P<scheme>[A-Za-z]+)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?P<query>\?[^#]*)?(?:#.*)?")
_AUTHORITY: Final = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]]*)(?::(?P<port>[0-9]{0,5}))?")
_NAME: Final = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_NUMBER: Final = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
"""A host whose last label is a number: resolvers and browsers take it for an IPv4 address, in any of its spellings."""
_KEPT: Final = "!#$%&'()*+,/:;=?@[]~"
"""Characters that are not encoded, besides letters, digits and ``-._``."""


@dataclass(frozen=True, slots=True)
class Target:
    """A parsed URL.

    `host` is a name in lower case, as A-labels and without a final dot; or an address in its shortest form, which is
    then also `address`. `path` contains the query.
    """

    scheme: str
    host: str
    port: int
    path: str
    address: Address | None = None

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if isinstance(self.address, IPv6Address) else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> tuple[str, str, int]:
        return self.scheme, self.host, self.port

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


def parse_url(text: str) -> Target:
    """Parse an absolute URL. Raises FetchRefused."""
    if len(text) > MOST_URL_LENGTH:
        raise FetchRefused(f"a URL must not exceed {MOST_URL_LENGTH} characters").at("MOST_URL_LENGTH")
    found = None if _AMBIGUOUS.search(text) else _URL.fullmatch(text)
    if found is None:
        raise FetchRefused("this is not a URL such as https://example.com/path")
    scheme = found["scheme"].lower()
    if scheme not in _PORTS:
        raise FetchRefused("a URL must begin with https:// or http://")
    host, port = _parse_authority(found["authority"])
    name, address = parse_host(host)
    path = _encoded((found["path"] or "/") + (found["query"] or ""))
    return Target(scheme, name, _PORTS[scheme] if port is None else port, path, address)


def redirected(target: Target, location: str) -> Target:
    """Return the target of a redirect. Raises FetchRefused, also for one from https to http.

    Anybody on the way can read and alter what comes by http. Servers send spaces of a path as they are; browsers encode
    them.
    """
    location = location.strip(" ").replace(" ", "%20")
    if _AMBIGUOUS.search(location):
        raise FetchRefused(f"{target.host} redirects to what is not a URL")
    try:
        text = urljoin(str(target), location)
    except ValueError:
        raise FetchRefused(f"{target.host} redirects to what is not a URL") from None
    to = parse_url(text)
    if target.scheme == "https" and to.scheme == "http":
        raise FetchRefused(f"{target.host} redirects from https to http")
    return to


def parse_host(text: str) -> tuple[str, Address | None]:
    """Return `Target.host` and `Target.address` for the host of a URL. Raises FetchRefused."""
    if text.startswith("["):
        address = _parse_v6(text[1:-1])
        return str(address), address
    name = _ascii(text).lower().removesuffix(".")
    if _NUMBER.fullmatch(name):
        number = _parse_v4(name)
        return str(number), number
    if len(name) > _LONGEST_HOST or not _NAME.fullmatch(name):
        raise FetchRefused("the host of the URL is not a name")
    return name, None


def _parse_authority(text: str) -> tuple[str, int | None]:
    if "@" in text:
        raise FetchRefused("a URL must not contain a user or password")
    found = _AUTHORITY.fullmatch(text)
    if found is None or not found["host"]:
        raise FetchRefused("the host of the URL is not a name")
    port = int(found["port"]) if found["port"] else None
    if port is not None and not 0 < port < 65_536:
        raise FetchRefused("the port of the URL is not between 1 and 65535")
    return found["host"], port


def _ascii(host: str) -> str:
    """Return a host as A-labels. Letters that only look different become the usual ones first: full-width digits are
    digits."""
    if host.isascii():
        return host
    try:
        if len(host) <= _LONGEST_HOST:  # the library takes long for a long text
            return idna.encode(host, uts46=True, std3_rules=True).decode()
    except UnicodeError:
        pass
    raise FetchRefused("the host of the URL is not a name")


def _parse_v4(text: str) -> IPv4Address:
    """Parse four decimal numbers without leading zeros, the only spelling in which all programs see one address."""
    try:
        return IPv4Address(text)
    except ValueError:
        raise FetchRefused("an IPv4 address in a URL must be four decimal numbers") from None


def _parse_v6(text: str) -> IPv6Address:
    try:
        address = IPv6Address(text)
    except ValueError:
        raise FetchRefused("the IPv6 address in the URL is not one") from None
    if address.scope_id is not None:
        raise FetchRefused("an IPv6 address in a URL must not have a zone")
    return address


def _encoded(path: str) -> str:
    try:
        return quote(path, safe=_KEPT)
    except UnicodeEncodeError:
        raise FetchRefused("the URL contains a character that is not Unicode") from None
