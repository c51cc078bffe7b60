"""Which hosts, addresses and ports the hub may fetch from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_interface, ip_network
from typing import Final

from hub.fetching.addresses import Address, is_public, unwrapped
from hub.fetching.errors import FetchRefused
from hub.fetching.urls import parse_host

DEFAULT_PORTS: Final = frozenset({80, 443})
CONNECT_SECONDS: Final = 10.0
"""Seconds in which a host must be found and connected to, TLS included."""
FETCH_SECONDS: Final = 30.0
"""Seconds for a whole download, redirects included."""

_ENTRY: Final = re.compile(r"(?:\[(?P<bracketed>[^\[\]]+)\]|(?P<plain>[^:\[\]]+))(?::(?P<port>[0-9]{1,5}))?")
"""Of an entry that is not a plain IPv6 address or network."""


@dataclass(frozen=True, slots=True)
class Exemption:
    """An entry of `HUB_FETCH_ALLOW`: the host `name` or the addresses in `network` may be reached although they are not
    public, at `port` if it has one and otherwise at the usual ports."""

    name: str = ""
    network: IPv4Network | IPv6Network | None = None
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Exemption:
        """Parse ``host``, ``host:port``, an address or a network, with or without a port. Raises ValueError."""
        found = _ENTRY.fullmatch(text)
        host = (found["bracketed"] or found["plain"]) if found else text
        port = int(found["port"]) if found and found["port"] else None
        if port is not None and not 0 < port < 65_536:
            raise ValueError(f"{text!r} has a port that is not between 1 and 65535")
        if "/" in host or ":" in host or text.startswith("["):
            return cls(network=_parse_network(host), port=port)
        try:
            name, address = parse_host(host)
        except FetchRefused:
            raise _not_an_entry(text) from None
        return cls(name, port=port) if address is None else cls(network=ip_network(address), port=port)

    def covers(self, host: str, address: Address) -> bool:
        return host == self.name if self.network is None else address in self.network


@dataclass(frozen=True, slots=True)
class FetchRules:
    """`ports` are those at which public hosts may be reached; `exemptions` may add others for some hosts."""

    exemptions: tuple[Exemption, ...] = ()
    ports: frozenset[int] = DEFAULT_PORTS
    connect_seconds: float = CONNECT_SECONDS
    seconds: float = FETCH_SECONDS

    def check(self, host: str, port: int, addresses: Sequence[Address]) -> list[Address]:
        """Return the addresses of a host to which the hub may connect: all of them, unwrapped. Raises FetchRefused if
        it may not connect to one of them."""
        checked = [unwrapped(address) for address in addresses]
        for address in checked:
            self._check(host, port, address)
        return checked

    def _check(self, host: str, port: int, address: Address) -> None:
        ports = {exemption.port for exemption in self.exemptions if exemption.covers(host, address)}
        if port in ports:
            return
        if port not in self.ports:
            raise FetchRefused(f"the hub does not fetch from port {port} of {host}")
        if None not in ports and not is_public(address):
            raise FetchRefused(f"{host} is not a public host")


def parse_ports(text: str) -> frozenset[int]:
    """Parse ports separated by commas. Raises ValueError."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    for part in parts:
        if not re.fullmatch("[0-9]{1,5}", part) or not 0 < int(part) < 65_536:
            raise ValueError(f"{part!r} is not a port: write numbers between 1 and 65535, separated by commas")
    return frozenset(map(int, parts))


def _parse_network(text: str) -> IPv4Network | IPv6Network:
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise _not_an_entry(text) from None
    if "/" in text and ip_interface(text).ip != network.network_address:
        raise ValueError(f"{text!r} is an address within a network: the network is {network}")
    return network


def _not_an_entry(text: str) -> ValueError:
    return ValueError(
        f"{text!r} is neither a host nor an address or network: "
        "write crm.example.org, crm.example.org:8443, 10.0.0.5 or 10.0.0.0/24"
    )
