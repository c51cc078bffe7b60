"""The bodies of the listings API: their fields, in the order in which Django REST framework would name mistakes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from hub.dialects.listings.errors import NON_FIELD, InvalidFields
from hub.dialects.listings.fields import (
    MISSING,
    Choice,
    Exact,
    Field,
    Flag,
    Invalid,
    References,
    Slug,
    Slugs,
    Span,
    Text,
    Upload,
    Whole,
)
from hub.dialects.listings.forms import Form
from hub.media.jobs import MOST_IMAGE_BYTES
from hub.services.listings.stores import (
    AVAILABILITIES,
    COUNT_BOUND,
    FURNISHED,
    LISTING_TYPES,
    PUBLISH_STATUSES,
    SHORT_TEXT,
    VIDEO_ID,
)

Values = dict[str, Any]


class NoReferences:
    """For bodies that refer to nothing."""

    def has(self, kind: str, key: str) -> bool:
        return False


NO_REFERENCES: Final = NoReferences()


@dataclass(frozen=True, slots=True)
class Serializer:
    """The fields of a body. Members with other names are ignored. `cross_check` checks the valid values of all fields
    together; it raises Invalid."""

    fields: Mapping[str, Field]
    cross_check: Callable[[Values], None] | None = None

    def validate(self, body: Any, references: References = NO_REFERENCES, *, partial: bool = False) -> Values:
        """Return the values of a body in their canonical forms; fields that it does not mention are left out. With
        `partial`, no field is required. Raises InvalidFields."""
        if body is None:
            raise InvalidFields({NON_FIELD: ["No data provided"]})
        if not isinstance(body, dict | Form):
            raise InvalidFields({NON_FIELD: [f"Invalid data. Expected a dictionary, but got {type(body).__name__}."]})
        values, errors = Values(), dict[str, list[str]]()
        for name, field in self.fields.items():
            try:
                given = field.given(body, name, partial=partial)
                values[name] = field.validated(given, references, partial=partial)
            except Invalid as refusal:
                errors[name] = refusal.texts
        if errors:
            raise InvalidFields(errors)
        values = {name: value for name, value in values.items() if value is not MISSING}
        self._check_across(values)
        return values

    def _check_across(self, values: Values) -> None:
        try:
            if self.cross_check is not None:
                self.cross_check(values)
        except Invalid as refusal:
            raise InvalidFields({NON_FIELD: refusal.texts}) from None


# Listings.

_YOUTUBE_HOSTS: Final = frozenset({"youtube.com", "youtube-nocookie.com", "youtu.be"})
_YOUTUBE_PATHS: Final = re.compile(r"/(?:embed|shorts|live|v|e)/([^/]+)/?")
_YOUTUBE_ID: Final = re.compile(rf"[A-Za-z0-9_-]{{1,{VIDEO_ID}}}")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def youtube_id(text: str) -> str:
    """Return the id of a video, which may be given by the URL of its page. Raises Invalid."""
    is_url = "/" in text or "." in text
    found = _youtube_id_in(text) if is_url else text
    if not _YOUTUBE_ID.fullmatch(found):
        raise Invalid("Enter the id of a YouTube video, or its URL.")
    return found


def _youtube_id_in(url: str) -> str:
    """Return the id in the URL of a video, such as ``https://youtu.be/ID`` or ``youtube.com/watch?v=ID``; empty if
    there is none."""
    try:
        parts = urlsplit(url if _SCHEME.match(url) else f"https://{url}")
        host = (parts.hostname or "").removeprefix("www.").removeprefix("m.").removeprefix("music.")
        if host not in _YOUTUBE_HOSTS or parts.scheme not in ("http", "https"):
            return ""
        if host == "youtu.be":
            return parts.path.strip("/")
        if parts.path.rstrip("/") == "/watch":
            return parse_qs(parts.query, max_num_fields=100).get("v", [""])[0]
        found = _YOUTUBE_PATHS.fullmatch(parts.path)
        return found[1] if found else ""
    except ValueError:
        return ""


_FROM_ZERO: Final = Span(least=0)
_ROOMS: Final = Span(least=0, most=COUNT_BOUND)


def _size() -> Exact:
    return Exact(null=True, digits=15, scale=2, span=_FROM_ZERO)


def _coordinate(most: int) -> Exact:
    # Phones send more places than the six that are kept.
    return Exact(null=True, digits=9, scale=6, span=Span(least=-most, most=most), rounds=True)


LISTING: Final = Serializer(
    {
        "title": Text(required=True, longest=SHORT_TEXT),
        "description": Text(blank=True, longest=100_000),
        "price": Exact(required=True, digits=15, scale=2, span=_FROM_ZERO),
        "currency": Slug(required=True, kind="currencies", by="code"),
        "property_type": Slug(required=True, kind="property_types"),
        "listing_type": Choice(required=True, options=tuple(LISTING_TYPES)),
        "location": Text(blank=True, longest=SHORT_TEXT),
        "district": Slug(required=True, kind="districts"),
        "latitude": _coordinate(90),
        "longitude": _coordinate(180),
        "bedrooms": Whole(null=True, span=_ROOMS),
        "bathrooms": Whole(null=True, span=_ROOMS),
        "floor_size": _size(),
        "plot_size": _size(),
        "furnished": Choice(options=tuple(FURNISHED)),
        "publish_status": Choice(options=tuple(PUBLISH_STATUSES)),
        "availability": Choice(options=tuple(AVAILABILITIES)),
        "amenities": Slugs(item=Slug(kind="amenities")),
        "youtube_video_id": Text(blank=True, longest=2_000, clean=youtube_id),
    }
)


# Images.

BOTH_OR_NEITHER: Final = "Provide either an image file or an external_url, not both."


def web_address(text: str) -> str:
    """Return a text that may be a URL; whether it can be fetched is found out later, and said in one text for all
    reasons. Raises Invalid."""
    if not _SCHEME.match(text):
        raise Invalid("Enter a valid URL.")
    return text


def _one_source(values: Values) -> None:
    if ("image" in values) == ("external_url" in values):
        raise Invalid(BOTH_OR_NEITHER)


_ALT: Final = Text(blank=True, longest=SHORT_TEXT)

NEW_IMAGE: Final = Serializer(
    {
        "image": Upload(most_bytes=MOST_IMAGE_BYTES),
        "external_url": Text(longest=2_000, clean=web_address),
        "is_main": Flag(),
        "alt": _ALT,
    },
    _one_source,
)

CHANGED_IMAGE: Final = Serializer({"is_main": Flag(), "alt": _ALT})


# Registration.

_LOGIN: Final = Text(required=True, longest=1_000)

CODE_REQUEST: Final = Serializer({"username": _LOGIN})

VERIFICATION: Final = Serializer(
    {
        "username": _LOGIN,
        "api_key_name": Text(required=True, longest=100),
        "code": Text(required=True, longest=100),
    }
)
