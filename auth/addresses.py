"""Addresses as limits count them."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from typing import Final

_V6_PREFIX: Final = ((1 << 64) - 1) << 64


def address_block(address: str) -> str:
    """Groups addresses for limits: an IPv4 address counts alone, an IPv6 address with its /64 network.

    A single IPv6 client is usually given a whole /64. An IPv4 address that is mapped into IPv6 counts as IPv4; what is
    no address counts as it is.
    """
    if ":" not in address:
        return address
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return f"{IPv6Address(int(parsed) & _V6_PREFIX)}/64"
