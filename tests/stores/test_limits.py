"""The limits of every entity."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from stores.errors import InvalidEntity
from stores.limits import MOST_VIOLATIONS, EntityLimits, check_document, parse_json
from tests.support.steps import counted_steps


@pytest.mark.parametrize(
    ("document", "field", "rule"),
    [
        ({"": 1}, "", "bad_name"),
        ({"a.b": 1}, "a.b", "bad_name"),
        ({"$a": 1}, "$a", "bad_name"),
        ({"a\0": 1}, "a\\u0000", "bad_name"),
        ({"a": {"$b": 1}}, "a.$b", "bad_name"),
        ({"a": [1, {"": 1}]}, "a.1.", "bad_name"),
        ({"x" * 11: 1}, "x" * 11, "name_too_long"),
        ({"a": "\0"}, "a", "nul"),
        ({"a": ["", "x\0y"]}, "a.1", "nul"),
        ({"a": 2**63}, "a", "integer_range"),
        ({"a": [[-(2**63) - 1]]}, "a.0.0", "integer_range"),
        ({"a": {"b": {"c": {}}}}, "a.b.c", "too_deep"),
        ({"a": [[[]]]}, "a.0.0", "too_deep"),
    ],
)
def test_a_broken_rule_names_its_place(document: Any, field: str, rule: str) -> None:
    """The violation names the place and the rule."""
    violations = check_document(document, EntityLimits(depth=3, name_length=10))
    assert [(v.field, v.rule) for v in violations] == [(field, rule)]


def test_a_name_that_is_too_long_is_shown_cut() -> None:
    """It is known whole, so that a field that is sent back unchanged can be found by it."""
    [violation] = check_document({"x" * 11: 1}, EntityLimits(name_length=10))
    assert (violation.field, violation.location) == ("x" * 11, "x" * 10)
    assert str(InvalidEntity([violation])) == "x" * 10 + ": name_too_long 10"


def test_every_violation_is_found() -> None:
    """The check does not stop at the first violation, and a prefix gives their place in a larger body."""
    violations = check_document({"$a": 1, "b": "\0", "c": 2**64}, EntityLimits(), "3")
    assert [(v.field, v.rule) for v in violations] == [
        ("3.$a", "bad_name"),
        ("3.b", "nul"),
        ("3.c", "integer_range"),
    ]


def test_the_check_ends_at_the_most_violations_that_an_answer_lists() -> None:
    """Paths are made for those alone: an array below long names costs no memory for each of its values."""
    document: Any = [{"$": 0}] * 45_000
    for _ in range(30):
        document = {"n" * 200: document}
    with counted_steps() as few:
        assert len(check_document(document, EntityLimits(depth=40))) == MOST_VIOLATIONS
    assert few.count < 1_000 * MOST_VIOLATIONS


def test_what_is_allowed_passes() -> None:
    """Allowed are 64-bit integers, unusual names, and nesting up to the limit."""
    document = {"a": -(2**63), "b": 2**63 - 1, "c d\"'\\é😀": [[{"e$": True}]], "f": 1e308, "g": True}
    assert check_document(document, EntityLimits(depth=4)) == []


@pytest.mark.parametrize("digits", ["18446744073709551616", "-9223372036854775809", "1" * 400])
@pytest.mark.parametrize("shape", ["{}", "[{}]", '{{"a":[1,{{"b":{}}}]}}'])
def test_an_integer_beyond_64_bits_is_refused(digits: str, shape: str) -> None:
    """It is not silently converted to a float, anywhere in the document."""
    with pytest.raises((InvalidEntity, ValueError)):
        parse_json(shape.format(digits).encode())


def test_an_unsigned_integer_is_left_to_the_document_check() -> None:
    """The fast parser keeps it exactly, and the document check refuses it with its place."""
    document = parse_json(b'{"a": 9223372036854775808}')
    assert [(v.field, v.rule) for v in check_document(document, EntityLimits())] == [("a", "integer_range")]


@pytest.mark.parametrize(
    "text", ["9223372036854775807", "-9223372036854775808", "1e20", "1.0", "18446744073709551616.0"]
)
def test_numbers_in_range_keep_their_type(text: str) -> None:
    """Large floats stay floats, and large integers stay integers."""
    value = parse_json(text.encode())
    assert value == orjson.loads(text)
    assert type(value) is type(orjson.loads(text))


@pytest.mark.parametrize("body", [b"", b"{", b"{'a':1}", b"NaN", b'"\xff"', b'"\\ud800"'])
def test_what_is_no_json_is_a_value_error(body: bytes) -> None:
    """Invalid JSON, invalid UTF-8 and lone surrogates are refused."""
    with pytest.raises(ValueError):  # noqa: PT011 - the parser's own subclass and text
        parse_json(body)


def test_deep_nesting_does_not_exhaust_the_stack() -> None:
    """An extremely nested body causes an error, not a crash."""
    with pytest.raises((InvalidEntity, ValueError)):
        parse_json(b"[" * 100_000 + b"1e300" + b"]" * 100_000)
    with pytest.raises((InvalidEntity, ValueError)):
        parse_json(b"[" * 1_000 + b"1e300" + b"]" * 1_000)
