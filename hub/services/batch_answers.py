"""References in batches: ``{"$ref":"0._id"}`` in a body, or its text inside a path, stands for a field of the answer to
an earlier request."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final

import orjson

from hub.http.errors import BadRequest
from hub.services.preparing import LoopShare
from stores.bounds import Limit
from stores.records import Entity

MOST_REFERENCES: Annotated[int, Limit("batch", "`$ref`", "400")] = 5_000
"""References in all requests of a batch."""

MOST_REFERENCED_BYTES: Annotated[int, Limit("request of a batch", "bytes that `$ref` stand for", "400")] = 1_048_576
"""Bytes of the values that replace the references of one request: each may be large, and occur often."""

MOST_ANSWER_BYTES: Annotated[int, Limit("batch", "bytes of answers that `$ref` look into", "400")] = 67_108_864
"""Bytes of the answers that references look into, for other fields than `_id` and `_rev`. Only the last one is kept
parsed, so an answer counts again if another one is looked into in between."""

COPIED_AT_ONCE: Final = 65_536
LOOKED_INTO_AT_ONCE: Final = 262_144
"""Bytes of values that are copied, and of answers that are parsed, on the event loop."""

MEMBER: Final = "$ref"
_REFERENCE: Final = re.compile(r"(0|[1-9][0-9]{0,3})\.(.+)\Z", re.DOTALL)
_IN_TEXT: Final = re.compile(r'\{\s*"\$ref"\s*:\s*("(?:[^"\\]|\\.)*")\s*\}')
_ID_BEGINS: Final = b'{"_id":"'
_FORM: Final = 'A $ref is the number of an earlier request and one of its fields: "0._id".'


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference to the field at the dotted path of an answer. `location`: where it stands in its request."""

    location: str
    request: int
    path: str

    @classmethod
    def parse(cls, text: object, location: str, index: int) -> Reference:
        """Return the reference in request `index` with this text. Raises BadRequest."""
        match = _REFERENCE.match(text) if isinstance(text, str) else None
        if match is None:
            raise BadRequest(location, _FORM)
        if int(match[1]) >= index:
            raise BadRequest(location, f"A $ref names an earlier request, and request {match[1]} is none.")
        return cls(location, int(match[1]), match[2])

    def value_in(self, answer: Entity) -> Any:
        """Return the value of the field. Raises BadRequest if the answer does not have it."""
        value: Any = answer
        for name in self.path.split("."):
            if not isinstance(value, dict) or name not in value:
                raise BadRequest(self.location, f"The answer to request {self.request} has no field {self.path!r}.")
            value = value[name]
        return value


def references_in(body: Any, index: int) -> Iterator[Reference]:
    """Yield the references in the body of request `index`. Raises BadRequest for a malformed one."""
    waiting: list[tuple[Any, str]] = [(body, "")]
    while waiting:
        value, location = waiting.pop()
        if isinstance(value, dict):
            if is_reference(value):
                yield Reference.parse(value[MEMBER], location or "body", index)
                continue
            members: Iterator[tuple[Any, Any]] = iter(value.items())
        else:
            members = enumerate(value)
        waiting += [
            (item, f"{location}.{name}" if location else str(name))
            for name, item in members
            if isinstance(item, dict | list)
        ]


def references_in_text(text: str, index: int) -> list[Reference]:
    """Return the references in a path of request `index`. Raises BadRequest for a malformed one."""
    if MEMBER in _IN_TEXT.sub("", text):
        raise BadRequest("path", _FORM)
    return [Reference.parse(_text_of(match), "path", index) for match in _IN_TEXT.finditer(text)]


def _text_of(match: re.Match[str]) -> str:
    """Return the text of a reference in a path. Raises BadRequest."""
    try:
        return str(orjson.loads(match[1]))
    except ValueError:
        raise BadRequest("path", _FORM) from None


def is_reference(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {MEMBER}


class Answers:
    """The answers to the requests of a batch so far, as their caller sees them: JSON texts, parsed when they are
    referred to. `share` is that of the batch."""

    def __init__(self, share: LoopShare) -> None:
        self.share = share
        self._texts: list[tuple[bytes, int]] = []
        self._parsed: tuple[int, Entity] = (-1, {})
        self._looked_into = 0

    def add(self, text: bytes, rev: int) -> None:
        """Add the answer to the next request: an entity and its revision."""
        self._texts.append((text, rev))

    def value_of(self, reference: Reference) -> Any:
        """Raises BadRequest if the answer does not have the field, and TooMuchForLoop."""
        text, rev = self._texts[reference.request]
        if reference.path == "_rev" and rev:
            return rev
        if reference.path == "_id" and (id := _id_of(text)) is not None:
            return id
        if self._parsed[0] != reference.request:
            self._look_into(text, reference.location)
            self._parsed = reference.request, orjson.loads(text)
        return reference.value_in(self._parsed[1])

    def _look_into(self, text: bytes, location: str) -> None:
        self._looked_into += len(text)
        if self._looked_into > MOST_ANSWER_BYTES:
            said = f"The $ref of a batch look into answers of at most {MOST_ANSWER_BYTES} bytes together."
            raise BadRequest(location, said).at("MOST_ANSWER_BYTES")
        self.share.spend(len(text), LOOKED_INTO_AT_ONCE)


def _id_of(text: bytes) -> str | None:
    """Return the id of an entity, with which its text begins; None for an unusual one."""
    if not text.startswith(_ID_BEGINS):
        return None
    id = text[len(_ID_BEGINS) : text.index(b'"', len(_ID_BEGINS))]
    return None if b"\\" in id else id.decode()


class ReferenceResolver:
    """Puts values in the place of the references of one request. Raises BadRequest, and TooMuchForLoop."""

    def __init__(self, answers: Answers, index: int) -> None:
        self._answers = answers
        self._index = index
        self._bytes = 0

    def body(self, value: Any, location: str = "") -> Any:
        """Return a body with values in the place of references."""
        if is_reference(value):
            return self._value(Reference.parse(value[MEMBER], location or "body", self._index))
        if isinstance(value, dict):
            return {name: self._within(item, location, name) for name, item in value.items()}
        return [self._within(item, location, number) for number, item in enumerate(value)]

    def text(self, text: str) -> str:
        """Return a path with values in the place of references."""
        return _IN_TEXT.sub(lambda match: self._part(_text_of(match)), text)

    def _within(self, value: Any, location: str, name: object) -> Any:
        return (
            self.body(value, f"{location}.{name}" if location else str(name))
            if isinstance(value, dict | list)
            else value
        )

    def _part(self, text: str) -> str:
        value = self._value(Reference.parse(text, "path", self._index))
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise BadRequest("path", "A $ref in a path must stand for a text or a whole number.")
        return str(value)

    def _value(self, reference: Reference) -> Any:
        value = self._answers.value_of(reference)
        size = len(orjson.dumps(value)) if isinstance(value, str | list | dict) else 8
        self._answers.share.spend(size, COPIED_AT_ONCE)
        self._bytes += size
        if self._bytes > MOST_REFERENCED_BYTES:
            text = f"The $ref of one request stand for at most {MOST_REFERENCED_BYTES} bytes together."
            raise BadRequest(reference.location, text).at("MOST_REFERENCED_BYTES")
        return value
