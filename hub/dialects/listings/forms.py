"""Form data as Django REST framework sees it: names with one or more values, which are texts and files."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.datastructures import UploadFile

Part = str | UploadFile


class Form:
    """The values of a form by name, in their order; files come after texts, as in the framework.

    A form cannot say null, nor that a list is empty, so fields read it by other rules than JSON (`Field.given`).
    """

    __slots__ = ("_values",)

    def __init__(self, parts: Iterable[tuple[str, Part]]) -> None:
        self._values: dict[str, list[Part]] = {}
        for name, value in sorted(parts, key=lambda part: isinstance(part[1], UploadFile)):
            self._values.setdefault(name, []).append(value)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def last(self, name: str) -> Part:
        """Return the last value of a name that the form contains."""
        return self._values[name][-1]

    def all(self, name: str) -> list[Part]:
        """Return all values of a name; none if the form does not contain it."""
        return self._values.get(name, [])
