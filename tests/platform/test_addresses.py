"""Grouping of addresses for limits per address."""

from __future__ import annotations

import pytest

from auth.addresses import address_block


@pytest.mark.parametrize(
    ("address", "block"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("::1", "::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("", ""),
        ("testclient", "testclient"),
        ("a:b", "a:b"),
    ],
)
def test_ipv6_counts_by_its_network(address: str, block: str) -> None:
    assert address_block(address) == block
