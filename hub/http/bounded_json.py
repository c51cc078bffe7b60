"""Bounded parsing of JSON bodies. A long array is parsed in pieces, so that no call of the parser holds the
interpreter, and with it the event loop, for long.

A piece ends where an item probably ends: before ``,{"name":`` if the first item begins with that name. The parser
verifies the guess: text from the beginning of one item to the end of another is a list of items; any other cut is not
valid JSON.
"""

from __future__ import annotations

import codecs
import json
import re
from dataclasses import dataclass, field
from typing import Any, Final

from stores.errors import InvalidEntity, Violation
from stores.limits import nodes_of, parse_json

PIECE: Final = 262_144
"""Largest part of an array that is parsed at once, in bytes."""

_FIRST_WINDOW: Final = 4_096
_MOST_MISSES: Final = 3
_BLANKS: Final = b" \t\r\n"
_BEGINS: Final = re.compile(rb'\{[ \t\r\n]*"[^"\\]{0,200}"[ \t\r\n]*:')
_BETWEEN: Final = re.compile(rb"[ \t\r\n]*,[ \t\r\n]*")
_BLANK: Final = re.compile(rb"[ \t\r\n]*")
_decode = json.JSONDecoder().raw_decode


@dataclass(frozen=True, slots=True)
class JsonLimits:
    """`items`: items of an array. `item_bytes`: bytes of one item. `item_nodes`, `nodes`: values in an entity, in a
    body."""

    items: int = 10_000
    item_bytes: int = 1_048_576
    item_nodes: int = 100_000
    nodes: int = 1_000_000


def parse_bounded(body: bytes, limits: JsonLimits) -> Any:
    """Return the JSON value of a body.

    An array is parsed up to the first item that is not an object, or up to one item too many, because the caller
    rejects it there. Raises ValueError if the body is not JSON, InvalidEntity if it exceeds the limits.
    """
    if len(body) > limits.item_bytes and body.lstrip(_BLANKS)[:1] == b"[":
        return _Array(body, limits).parse()
    value = parse_json(body)
    if isinstance(value, list):
        _Counting(limits).add(body, value)
    elif len(body) > limits.item_nodes and may_hold(body) > limits.item_nodes and nodes_of(value) > limits.item_nodes:
        raise _too_many("", limits.item_nodes, "max_entity_nodes")
    return value


def may_hold(text: bytes) -> int:
    """Return an upper bound for the values in JSON text: commas and brackets, including those inside strings."""
    return text.count(b",") + text.count(b"[") + text.count(b"{") + 1


@dataclass(slots=True)
class _Counting:
    """Counts the values of an array's items. It counts exactly only when the estimate exceeds the bound."""

    limits: JsonLimits
    items: list[Any] = field(default_factory=list)
    exact: int = 0
    counted: int = 0
    estimated: int = 0

    def add(self, text: bytes, items: list[Any]) -> None:
        """Add the items that were parsed from `text`. Raises InvalidEntity."""
        estimate = may_hold(text)
        if estimate > self.limits.item_nodes:
            for index, item in enumerate(items, len(self.items)):
                if nodes_of(item) > self.limits.item_nodes:
                    raise _too_many(str(index), self.limits.item_nodes, "max_entity_nodes")
        self.items += items
        self.estimated += estimate
        if self.exact + self.estimated > self.limits.nodes:
            self.exact += sum(map(nodes_of, self.items[self.counted :]))
            self.counted, self.estimated = len(self.items), 0
            if self.exact > self.limits.nodes:
                raise _too_many("body", self.limits.nodes, "max_body_nodes")


class _Array:
    def __init__(self, body: bytes, limits: JsonLimits) -> None:
        self.body = body
        self.limits = limits
        self.counting = _Counting(limits)
        self.at = _after_blanks(body, _after_blanks(body, 0) + 1)
        self.separator = b""
        self.misses = 0

    @property
    def items(self) -> list[Any]:
        return self.counting.items

    def parse(self) -> list[Any]:
        if self.body[self.at : self.at + 1] == b"]":
            self._end(self.at)
            return []
        while True:
            end = self._piece() or self._item()
            if not isinstance(self.items[-1], dict) or len(self.items) > self.limits.items:
                return self.items
            between = _BETWEEN.match(self.body, end)
            if between is None:
                self._end(_after_blanks(self.body, end))
                return self.items
            self._note_separator(end, between)
            self.at = between.end()

    def _piece(self) -> int:
        """Parse up to a probable end of an item, at most `PIECE` bytes on. Return that offset, or 0 if the guess
        failed."""
        if not self.separator or self.misses > _MOST_MISSES:
            return 0
        piece = min(PIECE, self.limits.item_bytes)
        found = self.body.rfind(self.separator, self.at, self.at + piece)
        if found < 0:
            return 0
        text = self.body[self.at : found + 1]
        try:
            items = parse_json(b"[" + text + b"]")
        except ValueError:
            self.misses += 1
            return 0
        self.misses = 0
        self.counting.add(text, items)
        return found + 1

    def _item(self) -> int:
        """Parse one item; return where it ends."""
        end = self._end_of_item()
        text = self.body[self.at : end]
        self.counting.add(text, [parse_json(text)])
        return end

    def _end_of_item(self) -> int:
        size = _FIRST_WINDOW
        while True:
            window = self.body[self.at : self.at + min(size, self.limits.item_bytes)]
            is_whole = self.at + len(window) == len(self.body)
            text = codecs.getincrementaldecoder("utf-8")().decode(window, final=is_whole)
            try:
                _, end = _decode(text)
                return self.at + len(text[:end].encode())
            except RecursionError:
                raise ValueError(f"item {len(self.items)} is nested too deep") from None
            except json.JSONDecodeError as error:
                if is_whole:
                    raise ValueError(f"item {len(self.items)}: {error.msg}") from None
            if size >= self.limits.item_bytes:
                detail = str(self.limits.item_bytes)
                raise InvalidEntity([Violation(str(len(self.items)), "too_large", detail)]).at("max_body_bytes")
            size *= 4

    def _note_separator(self, end: int, between: re.Match[bytes]) -> None:
        """Remember the text between two similar items, from the end of one to the first name of the next."""
        begins = _BEGINS.match(self.body, between.end())
        if begins is not None and (not self.separator or self.misses):
            self.separator = self.body[end - 1 : begins.end()]

    def _end(self, at: int) -> None:
        if self.body[at : at + 1] != b"]" or _after_blanks(self.body, at + 1) != len(self.body):
            raise ValueError(f"unexpected content after item {len(self.items)}")


def _after_blanks(body: bytes, at: int) -> int:
    found = _BLANK.match(body, at)
    return found.end() if found else at


def _too_many(location: str, most: int, limit_name: str) -> InvalidEntity:
    return InvalidEntity([Violation(location or "body", "too_many", str(most))]).at(limit_name)
