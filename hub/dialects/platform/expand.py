"""The parameter `expand`, and `only` beside it: paths that lead through references.

A segment such as ``orders(customer)`` leads to what refers here: to the orders, by their field `customer`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from hub.services.expansion_plan import MOST_EXPANDED_PATHS, PARAMETER, Expand, Referring, Segment, Segments, refused
from stores.errors import InvalidQuery
from stores.parse import MOST_SEGMENTS, MOST_SHOWN, named, parse_path

_PART = re.compile(
    r"(?P<store>[A-Za-z][A-Za-z0-9_-]{0,62})\((?P<path>[^.()]+(?:\.[^.()]+)*)\)(?=\.|\Z)|(?P<name>[^.]*)"
)
"""What refers here, or a name."""

_SHORT: Final = 200
"""Characters of `expand` up to which the paths are kept."""


def parse_expand(text: str, only: str | None) -> Expand:
    """Return what `expand` and `only` ask for. Raises InvalidQuery for a malformed path."""
    if only is None:
        return _parsed_before(text) if len(text) <= _SHORT else _parsed(text)
    return Expand(_parsed(text).paths, _shown(only))


def _parsed(text: str) -> Expand:
    items = text.split(",", MOST_EXPANDED_PATHS)
    if len(items) > MOST_EXPANDED_PATHS:
        raise refused(f"at most {MOST_EXPANDED_PATHS} paths").at("MOST_EXPANDED_PATHS")
    return Expand(tuple(dict.fromkeys(parse_segments(PARAMETER, item.strip()) for item in items)))


_parsed_before = lru_cache(maxsize=256)(_parsed)
"""`_parsed`, with its latest results: clients ask for the same paths again and again."""


def _shown(text: str) -> tuple[Segments, ...]:
    items = text.split(",", MOST_SHOWN)
    if len(items) > MOST_SHOWN:
        raise InvalidQuery("only", f"at most {MOST_SHOWN} paths").at("MOST_SHOWN")
    return tuple(parse_segments("only", item.strip()) for item in items)


def parse_segments(parameter: str, text: str) -> Segments:
    """Return the segments of a path. Raises InvalidQuery that names the parameter."""
    segments: list[Segment] = []
    at = 0
    while at <= len(text) and len(segments) <= MOST_SEGMENTS:
        found = _PART.match(named(parameter, text), at)
        assert found is not None  # a name may be empty
        segments.append(_segment(parameter, text, found))
        at = found.end() + 1
    if len(segments) > MOST_SEGMENTS:
        raise InvalidQuery(parameter, f"{text[:100]!r}… has more than {MOST_SEGMENTS} segments").at("MOST_SEGMENTS")
    return tuple(segments)


def _segment(parameter: str, text: str, found: re.Match[str]) -> Segment:
    try:
        if found["store"] is None:
            return parse_path(found["name"])[0]
        return Referring(found["store"], parse_path(found["path"]))
    except InvalidQuery:
        raise InvalidQuery(parameter, f"{text!r:.200} is not a field path") from None
