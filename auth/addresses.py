"""Client addresses, grouped for rate limits."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from typing import Final

_V6_PREFIX: Final = ((1 << 64) - 1) << 64


def address_block(address: str) -> str:
    """Return the key under which limits count an address: an IPv4 address itself, an IPv6 address as its /64 network.

    A single IPv6 client is usually given a whole /64. An IPv4-mapped IPv6 address counts as IPv4. Text that is not an
    address is returned unchanged.
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
