"""Spellings of addresses in URLs."""

from __future__ import annotations

from typing import Final

LITERALS: Final = (
    "127.0.0.1",
    "127.0.0.1.",
    "169.254.169.254",
    "8.8.8.8",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[2002:7f00:1::]",
    "[fe80::1]",
    "[2606:4700:4700::1111]",
    "\uff11\uff12\uff17.0.0.1",
    "\uff11\uff12\uff17\uff0e\uff10\uff0e\uff10\uff0e\uff11",
    "127\u30020\u30020\u30021",
    "\u2460\u2461\u2466.0.0.1",
    "127.0.0.\u00b9",
)
"""Addresses, and what becomes one when its letters are made the usual ones."""

ODD: Final = (
    "2130706433",
    "2130706433.",
    "0x7f000001",
    "0X7F000001",
    "0x7f.0.0.1",
    "0x7f.0x0.0x0.0x1",
    "127.0.0.0x1",
    "127.0.0.0x",
    "017700000001",
    "0177.0.0.1",
    "0177.0.0.01",
    "127.0.0.01",
    "127.0.0.008",
    "127.1",
    "127.0.1",
    "0",
    "0x0",
    "1.2.3.4.5",
    "256.0.0.1",
    "example.127",
    "0x7f\uff0e1",
    "\uff10x7f000001",
    "%31%32%37.0.0.1",
    "127%2e0%2e0%2e1",
    "127.0.0.1%00.example.com",
    "127.0.0.1..",
    ".127.0.0.1",
    "[127.0.0.1]",
    "[::1%25lo]",
    "[fe80::1%lo]",
    "[::1",
    "::1",
    "[v1.fe80::1]",
    "[]",
    "[::1].example.com",
)
"""Spellings in which programs see different addresses, or an address and a name."""
