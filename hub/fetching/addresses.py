"""Tells addresses of the public internet from all others.

The tables follow IANA's registries of special-purpose addresses (RFC 6890). `ipaddress.is_global` alone is not enough:
it differs between versions of Python, and it is true of multicast addresses and of some through which a gateway reaches
an IPv4 network.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

Address = IPv4Address | IPv6Address

_NOT_PUBLIC_4: Final = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this machine
        "10.0.0.0/8",
        "100.64.0.0/10",  # between a provider and its customers; metadata of one cloud
        "127.0.0.0/8",
        "168.63.129.16/32",  # the host of a virtual machine on Azure
        "169.254.0.0/16",  # link-local; metadata of most clouds
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocols of the IETF; metadata of one cloud
        "192.0.2.0/24",
        "192.88.99.0/24",  # gateways of 6to4
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
_PUBLIC_6: Final = IPv6Network("2000::/3")
"""All global unicast addresses that IANA gives out. Outside are loopback, link-local, site-local and unique local
addresses, multicast, IPv4-compatible ones, and the local prefixes of NAT64 (64:ff9b:1::/48)."""
_NOT_PUBLIC_6: Final = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocols of the IETF, among them Teredo, which contains an IPv4 address
        "2001:db8::/32",
        "2002::/16",  # 6to4, which contains an IPv4 address
        "3fff::/20",
    )
)
_NAT64: Final = IPv6Network("64:ff9b::/96")


def unwrapped(address: Address) -> Address:
    """Return the IPv4 address in an IPv4-mapped IPv6 address, to which a connection would go; others unchanged."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


def is_public(address: Address) -> bool:
    """Return whether an unwrapped address is global unicast.

    Of the IPv6 addresses that contain an IPv4 address, those of NAT64's well-known prefix are as public as that one: on
    networks without IPv4 they are the only way to servers without IPv6. All others are not public.
    """
    if isinstance(address, IPv4Address):
        return address.is_global and not _is_in(address, _NOT_PUBLIC_4)
    if address in _NAT64:
        return is_public(IPv4Address(int(address) & 0xFFFF_FFFF))
    return address.is_global and address in _PUBLIC_6 and not _is_in(address, _NOT_PUBLIC_6)


def _is_in(address: Address, networks: Iterable[IPv4Network | IPv6Network]) -> bool:
    return any(address in network for network in networks)
