"""The serializers of the listings API say the same as Django REST framework itself: what is accepted, the canonical
values, and the texts and the order of errors."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import UploadFile

from hub.dialects.listings.errors import InvalidFields
from hub.dialects.listings.forms import Form
from hub.dialects.listings.serializers import CHANGED_IMAGE, LISTING, NEW_IMAGE, VERIFICATION, Serializer
from tests.listings import drf


class Known:
    """The reference data that both sides have."""

    def has(self, kind: str, key: str) -> bool:
        return key in drf.REFERENCES[kind]


KNOWN = Known()
MISSING = object()

GOOD: dict[str, Any] = {
    "title": "3 bedroom Bungalow in Kololo",
    "price": "850000000",
    "currency": "UGX",
    "property_type": "bungalow",
    "listing_type": "sale",
    "district": "kampala",
}

BOTH = [
    (LISTING, drf.PropertySerializer, GOOD),
    (NEW_IMAGE, drf.NewImageSerializer, {"external_url": "https://cdn.example.com/a.jpg"}),
    (CHANGED_IMAGE, drf.ChangedImageSerializer, {}),
    (VERIFICATION, drf.VerificationSerializer, {"username": "ann", "api_key_name": "My site", "code": "123456"}),
]
"""Serializers of both sides, with a body that is good."""

TEXTS = [
    "", " ", "\u00a0\u2003", "x", " x ", "x" * 255, "x" * 256, "x" * 1_001, "x" * 2_001, "\u00e9" * 255, "😀" * 256,
    "a\0b", "\ud800", "a\udfffb\ud800", "a\ud800" * 200, "\0\ud800" * 200, "null", "None", "undefined",
    "true", "True", "TRUE", "t", "on", "On", "YES", "y", "1", "0", "f", "n", "no", "oFF", "false", "2",
    "7", " 7 ", "7.0", "7.00 ", "7.", "7.5", ".5", "+5", "--5", "-1", "-0", "-0.00", "-0.001", "0.001", "0.010", "1.10",
    "1_000", "1_000.5", "\u0663", "\u0661\u0662.\u0665", "²", "½", "1,5", "1 000", "0x10", "1e3", "1E+2", "1e-3",
    "1.5e1", "0e5", "0e-5", "0e20", "1e13", "1e12", "1e14", "9999999999999.99", "9999999999999.999", "99999999999999",
    "123456789012345", "123456789012345.67", "1234567890123456", "0.00", "0.005", "1e999999999", "-1e999999999",
    "1e-999999999", "1e999999999999999999", "1e-999999999999999999", "1e9999999999999999999", "0e999999999",
    "NaN", "nan", "-NaN", "sNaN", "nan123", "Infinity", "-Infinity", "inf", "-inf", "INF",
    "5" * 1_000, "5" * 1_001, "0." + "0" * 998, "0." + "0" * 999, "." + "1" * 900, "9" * 500 + "." + "9" * 400,
    "90", "90.000001", "90.0000001", "89.9999999", "-90.0000005", "180", "180.0000004", "-181", "999.9999999", "1000",
    "2147483647", "2147483648", "12.3456785", "12.3456775", "0.0000005",
    "UGX", "ugx", "bungalow", "Bungalow", "kampala", "parking", "5", "rent", "sale", "furnished", "draft", "sold",
    "dQw4w9WgXcQ", "https://youtu.be/dQw4w9WgXcQ", "https://example.com/a.jpg", "example.com/a.jpg", "ftp://x/y",
]  # fmt: skip

VALUES: list[Any] = [
    MISSING, None, *TEXTS, True, False, 0, 1, -1, 2, 5, 1.0, 0.0, -0.0, 1.5, 3.0, 7.25, 0.1, 1e22, 1e-7, 1e308, 1e400,
    -1e400, 10**13, 10**15, 2**31, 2**63, 10**20, -(10**20), 10**999, 10**1_000, 10**1_001, 10**4_299, 12.3456789,
    [], [1], ["a"], [None], [""], [True], ["parking"], ["parking", "parking", "gym"], ["parking", "nope", "no"],
    ["parking", None], ["parking", 5], [["parking"]], [{"a": 1}], [1.5], ["\ud800"], ["a\0"], ["None"], [{}], [[]],
    {}, {"parking": 1}, {"nope": 1}, {"a": [1, {"b": None}]}, [0] * 400, [0] * 300, ["x" * 1_000], [[[[]]]],
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _database() -> Iterator[None]:
    drf.open_database()
    yield
    drf.close_database()


def our_outcome(serializer: Serializer, body: Any, *, partial: bool = False) -> drf.Outcome:
    try:
        return "values", serializer.validate(body, KNOWN, partial=partial)
    except InvalidFields as refusal:
        return "errors", dict(refusal.errors)


def check(serializer: Serializer, kind: Any, body: Any, *, partial: bool = False) -> drf.Outcome:
    """Compare both sides about a JSON body; return what they say."""
    ours, theirs = our_outcome(serializer, body, partial=partial), drf.outcome(kind, body, partial=partial)
    same(ours, theirs, body)
    return ours


def check_form(serializer: Serializer, kind: Any, pairs: list[tuple[str, Any]], *, partial: bool = False) -> None:
    """Compare both sides about a form of texts."""
    theirs = drf.outcome(kind, drf.form_of(pairs), partial=partial)
    same(our_outcome(serializer, Form(pairs), partial=partial), theirs, pairs)


def same(ours: drf.Outcome, theirs: drf.Outcome, body: Any) -> None:
    assert drf.as_sent(ours) == drf.as_sent(theirs), body
    assert list(ours[1]) == list(theirs[1]), body  # in the same order


FIELDS = [(*each, name) for each in BOTH for name in each[0].fields if name != "image"]


@pytest.mark.parametrize(("serializer", "kind", "good", "name"), FIELDS)
def test_every_field_with_every_value(serializer: Serializer, kind: Any, good: dict[str, Any], name: str) -> None:
    """In a body that is good otherwise; as JSON, and as a form if it is a text."""
    others = {other: value for other, value in good.items() if other != name}
    found = set()
    for value in VALUES:
        given = {} if value is MISSING else {name: value}
        found.add(check(serializer, kind, others | given)[0])
        if isinstance(value, str) or value is MISSING:
            check_form(serializer, kind, [*others.items(), *given.items()])
    assert found == {"errors", "values"}


@pytest.mark.parametrize(("serializer", "kind", "good", "name"), FIELDS)
def test_every_field_alone(serializer: Serializer, kind: Any, good: dict[str, Any], name: str) -> None:
    """Nothing else is in the body, of a change and of a whole object."""
    for value in (None, "", " ", "x", 5, ["parking"], {}):
        for partial in (False, True):
            check(serializer, kind, {name: value}, partial=partial)
            if isinstance(value, str):
                check_form(serializer, kind, [(name, value)], partial=partial)


@pytest.mark.parametrize("partial", [False, True], ids=["whole", "partial"])
@pytest.mark.parametrize(("serializer", "kind"), [each[:2] for each in BOTH])
@pytest.mark.parametrize("body", [None, [], [1], {}, "", "a", 0, 1, 1.5, True, False], ids=repr)
def test_what_is_no_object(serializer: Serializer, kind: Any, body: Any, partial: bool) -> None:
    ours = our_outcome(serializer, body, partial=partial)
    same(ours, drf.outcome_of_any(kind, body, partial=partial), body)


def test_a_good_listing() -> None:
    """What is compared above means something: this body is accepted, with these values."""
    kind, values = check(LISTING, drf.PropertySerializer, GOOD | {"amenities": ["parking"], "latitude": 0.3, "id": 7})
    assert kind == "values"
    assert values == GOOD | {"price": "850000000.00", "amenities": ["parking"], "latitude": "0.300000"}


def test_the_texts_of_the_contract() -> None:
    body: dict[str, Any] = {
        "title": "",
        "price": "-1",
        "currency": "XXX",
        "property_type": None,
        "listing_type": "x",
        "district": "no-such-district",
        "bedrooms": "a",
        "latitude": 91,
        "amenities": "parking",
    }
    assert check(LISTING, drf.PropertySerializer, body) == (
        "errors",
        {
            "title": ["This field may not be blank."],
            "price": ["Ensure this value is greater than or equal to 0."],
            "currency": ["Object with code=XXX does not exist."],
            "property_type": ["This field may not be null."],
            "listing_type": ['"x" is not a valid choice.'],
            "district": ["Object with slug=no-such-district does not exist."],
            "latitude": ["Ensure this value is less than or equal to 90."],
            "bedrooms": ["A valid integer is required."],
            "amenities": ['Expected a list of items but got type "str".'],
        },
    )


FORMS: list[list[tuple[str, str]]] = [
    [],
    [("amenities", "parking"), ("amenities", "gym")],
    [("amenities", "")],
    [("amenities", "parking"), ("amenities", "nope")],
    [("amenities", "parking,gym")],
    [("amenities[]", "parking")],
    [("amenities[0]", "parking")],
    [("title", "first"), ("title", "second")],
    [("bedrooms", ""), ("latitude", ""), ("latitude", " "), ("furnished", ""), ("description", "")],
    [("currency", ""), ("district", ""), ("price", ""), ("listing_type", "")],
]


@pytest.mark.parametrize("partial", [False, True], ids=["whole", "partial"])
@pytest.mark.parametrize("more", FORMS, ids=str)
def test_forms(more: list[tuple[str, str]], partial: bool) -> None:
    for pairs in (more, [*GOOD.items(), *more]):
        check_form(LISTING, drf.PropertySerializer, pairs, partial=partial)


FILES = [b"", b"picture"]


@pytest.mark.parametrize("file", [None, *FILES, "a text"])
@pytest.mark.parametrize("url", [None, "", "https://example.com/a.jpg", "no url", " "])
@pytest.mark.parametrize("is_main", [None, "", "true", "perhaps"])
def test_forms_with_files(file: bytes | str | None, url: str | None, is_main: str | None) -> None:
    pairs: list[tuple[str, Any]] = [
        (name, value) for name, value in [("external_url", url), ("is_main", is_main)] if value is not None
    ]
    mine, theirs = list(pairs), list(pairs)
    if isinstance(file, bytes):
        mine.append(("image", UploadFile(io.BytesIO(file), size=len(file), filename="a.jpg")))
        theirs.append(("image", SimpleUploadedFile("a.jpg", file)))
    elif file is not None:
        mine, theirs = [*mine, ("image", file)], [*theirs, ("image", file)]
    ours = our_outcome(NEW_IMAGE, Form(mine))
    same(ours, drf.outcome(drf.NewImageSerializer, drf.form_of(theirs)), pairs)


def test_a_file_in_the_place_of_a_text() -> None:
    for name in LISTING.fields:
        mine = Form([(name, UploadFile(io.BytesIO(b"5"), size=1, filename="5"))])
        theirs = drf.form_of([(name, SimpleUploadedFile("5", b"5"))])
        same(our_outcome(LISTING, mine), drf.outcome(drf.PropertySerializer, theirs), name)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(TEXTS)
NUMBERS = (st.decimals() | st.floats() | st.integers()).map(str) | st.from_regex(r"-?\d{0,16}\.?\d{0,9}")
ANY = st.recursive(
    SCALARS | NUMBERS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = st.sampled_from([key for keys in drf.REFERENCES.values() for key in keys])
BODIES = st.fixed_dictionaries(
    {}, optional={name: ANY | NUMBERS | KEYS | st.lists(KEYS, max_size=4) for name in (*LISTING.fields, "region")}
)


@pytest.mark.generated(0.05)
@given(BODIES, st.booleans(), st.booleans())
def test_generated_bodies(body: dict[str, Any], good_otherwise: bool, partial: bool) -> None:
    body = GOOD | body if good_otherwise else body
    check(LISTING, drf.PropertySerializer, body, partial=partial)


@pytest.mark.generated(0.05)
@given(
    st.lists(st.tuples(st.sampled_from([*LISTING.fields]), NUMBERS | KEYS | st.sampled_from(TEXTS) | st.text())),
    st.booleans(),
)
def test_generated_forms(pairs: list[tuple[str, str]], partial: bool) -> None:
    check_form(LISTING, drf.PropertySerializer, pairs, partial=partial)
