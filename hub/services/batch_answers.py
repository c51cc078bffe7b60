"""References in batches: ``{"$ref":"0._id"}`` in a body, or its text inside a path, stands for a field of the answer to
an earlier request."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final

import orjson

from hub.errors import BadRequest
from stores.bounds import Limit
from stores.records import Entity

MOST_REFERENCES: Annotated[int, Limit("batch", "`$ref`", "400")] = 5_000
"""References in all requests of a batch."""

MOST_REFERENCED_BYTES: Annotated[int, Limit("request of a batch", "bytes that `$ref` stand for", "400")] = 1_048_576
"""Bytes of the values for which the references of one request stand: each may be large, and be named often."""

MEMBER: Final = "$ref"
_PLACE: Final = re.compile(r"(0|[1-9][0-9]{0,3})\.(.+)\Z", re.DOTALL)
_IN_TEXT: Final = re.compile(r'\{\s*"\$ref"\s*:\s*("(?:[^"\\]|\\.)*")\s*\}')


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference to the field at the dotted path of an answer. `place`: where it stands in its request."""

    place: str
    request: int
    path: str

    @classmethod
    def parse(cls, text: object, place: str, index: int) -> Reference:
        """Return the reference in request `index` with this text. Raises BadRequest."""
        match = _PLACE.match(text) if isinstance(text, str) else None
        if match is None:
            raise BadRequest(place, 'A $ref is the number of an earlier request and one of its fields: "0._id".')
        if int(match[1]) >= index:
            raise BadRequest(place, f"A $ref names an earlier request, and request {match[1]} is none.")
        return cls(place, int(match[1]), match[2])

    def value_in(self, answer: Entity) -> Any:
        """Return the value of the field. Raises BadRequest if the answer does not have it."""
        value: Any = answer
        for name in self.path.split("."):
            if not isinstance(value, dict) or name not in value:
                raise BadRequest(self.place, f"The answer to request {self.request} has no field {self.path!r}.")
            value = value[name]
        return value


def references_in(body: Any, index: int) -> Iterator[Reference]:
    """Yield the references in the body of request `index`. Raises BadRequest for a malformed one."""
    waiting: list[tuple[Any, str]] = [(body, "")]
    while waiting:
        value, place = waiting.pop()
        if isinstance(value, dict):
            if is_reference(value):
                yield Reference.parse(value[MEMBER], place or "body", index)
                continue
            members: Iterator[tuple[Any, Any]] = iter(value.items())
        else:
            members = enumerate(value)
        waiting += [
            (item, f"{place}.{name}" if place else str(name)) for name, item in members if isinstance(item, dict | list)
        ]


def references_in_text(text: str, index: int) -> list[Reference]:
    """Return the references in a path of request `index`. Raises BadRequest for a malformed one."""
    return [Reference.parse(orjson.loads(match[1]), "path", index) for match in _IN_TEXT.finditer(text)]


def is_reference(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {MEMBER}


class Answers:
    """The answers to the requests of a batch so far, as their caller sees them: JSON texts, parsed when they are
    referred to."""

    def __init__(self) -> None:
        self._texts: list[bytes] = []
        self._parsed: dict[int, Entity] = {}

    def add(self, text: bytes) -> None:
        self._texts.append(text)

    def value_of(self, reference: Reference) -> Any:
        """Raises BadRequest if the answer does not have the field."""
        number = reference.request
        if number not in self._parsed:
            self._parsed[number] = orjson.loads(self._texts[number])
        return reference.value_in(self._parsed[number])


class Resolver:
    """Puts values in the place of the references of one request. Raises BadRequest."""

    def __init__(self, answers: Answers, index: int) -> None:
        self._answers = answers
        self._index = index
        self._bytes = 0

    def body(self, value: Any, place: str = "") -> Any:
        """Return a body with values in the place of references."""
        if is_reference(value):
            return self._value(Reference.parse(value[MEMBER], place or "body", self._index))
        if isinstance(value, dict):
            return {name: self._within(item, place, name) for name, item in value.items()}
        return [self._within(item, place, number) for number, item in enumerate(value)]

    def text(self, text: str) -> str:
        """Return a path with values in the place of references."""
        return _IN_TEXT.sub(lambda match: self._part(orjson.loads(match[1])), text)

    def _within(self, value: Any, place: str, name: object) -> Any:
        return self.body(value, f"{place}.{name}" if place else str(name)) if isinstance(value, dict | list) else value

    def _part(self, text: str) -> str:
        value = self._value(Reference.parse(text, "path", self._index))
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise BadRequest("path", "A $ref in a path must stand for a text or a whole number.")
        return str(value)

    def _value(self, reference: Reference) -> Any:
        value = self._answers.value_of(reference)
        self._bytes += len(orjson.dumps(value)) if isinstance(value, str | list | dict) else 8
        if self._bytes > MOST_REFERENCED_BYTES:
            text = f"The $ref of one request stand for at most {MOST_REFERENCED_BYTES} bytes together."
            raise BadRequest(reference.place, text).at("MOST_REFERENCED_BYTES")
        return value
