"""Fields of request bodies, as Django REST framework 3.18 checks them: the same values, the same texts of errors.

Sources: `rest_framework/fields.py`, `relations.py` and `validators.py`. tests/listings/test_serializers_beside_drf.py
compares them with the framework itself.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal, DecimalException
from typing import Annotated, Any, ClassVar, Final, Protocol

from starlette.datastructures import UploadFile

from hub.dialects.listings.forms import Form
from stores.bounds import Limit
from stores.limits import nodes_of

LONGEST_NUMBER: Final[Annotated[int, Limit("field", "characters of a number", "400")]] = 1_000
"""As in the framework: converting a longer text would take too long."""

Body = Mapping[str, Any] | Form


class Missing:
    """The type of `MISSING`."""


MISSING: Final = Missing()
"""The value of a field that a body does not mention."""


class Invalid(Exception):
    """A value that a field refuses, with one or more texts."""

    def __init__(self, *texts: str) -> None:
        super().__init__(*texts)
        self.texts = list(texts)


class References(Protocol):
    """The reference data now in force."""

    def has(self, kind: str, key: str) -> bool:
        """Return whether there is such an object. `kind`: `currencies`, `property_types`, `districts`, `amenities`;
        `key`: its slug, or code."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Field(ABC):
    """The check of one member of a body. `required`: a body must have it, unless it changes only some fields. `null`:
    it may be null."""

    required: bool = False
    null: bool = False
    blank: bool = False
    """Whether it may be an empty text."""

    empty_in_form: ClassVar[Any] = MISSING
    """The value in a form that does not have the field."""

    def given(self, body: Body, name: str, *, partial: bool) -> Any:
        """Return the value in a body, or MISSING. An empty text in a form also stands for null, or for nothing."""
        if not isinstance(body, Form):
            return body.get(name, MISSING)
        if name not in body:
            return MISSING if partial else self.empty_in_form
        value = body.last(name)
        if value != "" or self.blank:
            return value
        return None if self.null else MISSING if not self.required else value

    def validated(self, value: Any, references: References, *, partial: bool) -> Any:
        """Return the value in its canonical form, or MISSING. Raises Invalid."""
        if value is MISSING:
            if self.required and not partial:
                raise Invalid("This field is required.")
            return MISSING
        if value is None:
            if not self.null:
                raise Invalid("This field may not be null.")
            return None
        return self.check(value, references)

    @abstractmethod
    def check(self, value: Any, references: References) -> Any:
        """Return the canonical form of a value that is neither missing nor null. Raises Invalid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Text(Field):
    """A text without blanks around it. Numbers are texts too. `clean` is a further check, which may change it."""

    longest: int
    clean: Callable[[str], str] = str

    def validated(self, value: Any, references: References, *, partial: bool) -> Any:
        if isinstance(value, str) and not value.strip():
            if not self.blank:
                raise Invalid("This field may not be blank.")
            return ""
        return Field.validated(self, value, references, partial=partial)

    def check(self, value: Any, references: References) -> str:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise Invalid("Not a valid string.")
        text = str(value).strip()
        if mistakes := list(self._mistakes(text)):
            raise Invalid(*mistakes)
        return self.clean(text)

    def _mistakes(self, text: str) -> Iterator[str]:
        if len(text) > self.longest:
            yield f"Ensure this field has no more than {self.longest} characters."
        if "\0" in text:
            yield "Null characters are not allowed."
        if found := _SURROGATE.search(text):
            yield f"Surrogate characters are not allowed: U+{ord(found[0]):X}."


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The values that a number may have."""

    least: int | None = None
    most: int | None = None

    def check(self, value: int | Decimal) -> None:
        """Raise Invalid for a value that is out of the span."""
        if self.most is not None and value > self.most:
            raise Invalid(f"Ensure this value is less than or equal to {self.most}.")
        if self.least is not None and value < self.least:
            raise Invalid(f"Ensure this value is greater than or equal to {self.least}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole(Field):
    """A whole number, also as text and with a point: ``3``, ``"3"``, ``3.0``."""

    span: Span

    def check(self, value: Any, references: References) -> int:
        if isinstance(value, str) and len(value) > LONGEST_NUMBER:
            raise Invalid("String value too large.")
        if isinstance(value, list | dict):
            raise Invalid("A valid integer is required.")
        try:
            number = int(_POINT_ZERO.sub("", text_of(value)))
        except ValueError:
            raise Invalid("A valid integer is required.") from None
        self.span.check(number)
        return number


@dataclass(frozen=True, slots=True, kw_only=True)
class Exact(Field):
    """A decimal of at most `digits` digits, `scale` of them after the point. Its canonical form is a text with all of
    the latter: ``"1500000.00"``. With `rounds`, further ones are rounded."""

    digits: int
    scale: int
    span: Span
    rounds: bool = False

    def validated(self, value: Any, references: References, *, partial: bool) -> Any:
        if self.null and isinstance(value, str) and not value.strip():
            return None
        return Field.validated(self, value, references, partial=partial)

    def check(self, value: Any, references: References) -> str:
        number = _decimal(value)
        if self.rounds and number.as_tuple().exponent < -self.scale:  # type: ignore[operator]
            number = number.quantize(self._step, context=_ROUNDING)
        self._check_digits(number)
        number = number.quantize(self._step, context=Context(prec=self.digits))
        self.span.check(number)
        return f"{number:f}" if number else f"{abs(number):f}"

    @property
    def _step(self) -> Decimal:
        return Decimal((0, (1,), -self.scale))

    def _check_digits(self, number: Decimal) -> None:
        _, digits, exponent = number.as_tuple()
        assert isinstance(exponent, int)
        scale = max(0, -exponent)
        total = max(len(digits) + max(0, exponent), scale)
        if total > self.digits:
            raise Invalid(f"Ensure that there are no more than {self.digits} digits in total.")
        if scale > self.scale:
            raise Invalid(f"Ensure that there are no more than {self.scale} decimal places.")
        if total - scale > self.digits - self.scale:
            most = self.digits - self.scale
            raise Invalid(f"Ensure that there are no more than {most} digits before the decimal point.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice(Field):
    """One of several texts."""

    options: Sequence[str]

    def check(self, value: Any, references: References) -> str:
        text = text_of(value)
        if text not in self.options:
            shown = text.encode(errors="backslashreplace").decode()  # lone surrogates cannot be sent
            raise Invalid(f'"{shown}" is not a valid choice.')
        return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag(Field):
    """True or false, also as numbers and as texts in any case: ``"yes"``, ``"off"``, ``"1"``. A form without it says
    false, as a box that is not ticked."""

    empty_in_form: ClassVar[Any] = False

    def check(self, value: Any, references: References) -> bool:
        if isinstance(value, str):
            value = value.lower()
        if isinstance(value, str | int | float):
            if value in _TRUE:
                return True
            if value in _FALSE:
                return False
        raise Invalid("Must be a valid boolean.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Slug(Field):
    """An object of the reference data, by the field `by`."""

    kind: str
    by: str = "slug"

    def validated(self, value: Any, references: References, *, partial: bool) -> Any:
        value = None if isinstance(value, str) and not value else value
        return Field.validated(self, value, references, partial=partial)

    def check(self, value: Any, references: References) -> str:
        key = text_of(value)
        if _SURROGATE.search(key):
            raise Invalid("Invalid value.")
        if value is None or not references.has(self.kind, key):
            raise Invalid(does_not_exist(self.by, key))
        return key


@dataclass(frozen=True, slots=True, kw_only=True)
class Slugs(Field):
    """Several objects of the reference data, each once. A form without them says that there are none."""

    item: Slug

    def given(self, body: Body, name: str, *, partial: bool) -> Any:
        if not isinstance(body, Form):
            return body.get(name, MISSING)
        return MISSING if partial and name not in body else body.all(name)

    def check(self, value: Any, references: References) -> list[str]:
        if not isinstance(value, list | dict):
            raise Invalid(f'Expected a list of items but got type "{type(value).__name__}".')
        return list(dict.fromkeys(self.item.check(item, references) for item in value))


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload(Field):
    """An uploaded file of at most `most_bytes`."""

    most_bytes: int

    def check(self, value: Any, references: References) -> UploadFile:
        if not isinstance(value, UploadFile):
            raise Invalid("The submitted data was not a file. Check the encoding type on the form.")
        if not value.size:
            raise Invalid("The submitted file is empty.")
        if value.size > self.most_bytes:
            raise Invalid(too_many_bytes(self.most_bytes))
        return value


def does_not_exist(by: str, key: str) -> str:
    """Return the text for an object of the reference data that does not exist."""
    return f"Object with {by}={key} does not exist."


def too_many_bytes(most: int) -> str:
    """Return the text for a file of more than `most` bytes."""
    return f"Ensure this file has no more than {most} bytes."


def text_of(value: Any) -> str:
    """Return any value as a text. That of a file is its name."""
    return value.filename or "" if isinstance(value, UploadFile) else str(value)


def _decimal(value: Any) -> Decimal:
    """Return a number, which may be given as text. Raises Invalid."""
    if isinstance(value, list | dict) and nodes_of(value) > LONGEST_NUMBER // 3:
        raise Invalid("String value too large.")  # each of its values takes at least three characters
    text = text_of(value).strip()
    if len(text) > LONGEST_NUMBER:
        raise Invalid("String value too large.")
    try:
        number = Decimal(text)
    except DecimalException:
        raise Invalid("A valid number is required.") from None
    if not number.is_finite():
        raise Invalid("A valid number is required.")
    return number


_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_POINT_ZERO: Final = re.compile(r"\.0*\s*$")
_ROUNDING: Final = Context(prec=2 * LONGEST_NUMBER)
"""Enough digits for every number of LONGEST_NUMBER characters whose last digit is behind the point."""
_TRUE: Final = frozenset({"t", "y", "yes", "true", "on", "1", 1})
_FALSE: Final = frozenset({"f", "n", "no", "false", "off", "0", 0})
