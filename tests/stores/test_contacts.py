"""Mail addresses and phone numbers: their canonical forms, and agreement with the library for addresses."""

from __future__ import annotations

from typing import Any, Final

import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import example, given
from hypothesis import strategies as st

from stores.errors import InvalidEntity
from stores.field import Field

EMAIL, PHONE = Field("a", "Email"), Field("a", "Phone")


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("ann@example.com", "ann@example.com"),
        ("Ann.O'Hara+Shop@Mail.EXAMPLE.co.uk", "ann.o'hara+shop@mail.example.co.uk"),
        ("a@b-c.example", "a@b-c.example"),
        ("a@example.test", "a@example.test"),
        ("MÜLLER@example.com", "müller@example.com"),
        ("ann@BÜCHER.example", "ann@bücher.example"),
        ("ann@xn--bcher-kva.example", "ann@bücher.example"),
        ("STRASSE@straße.example", "strasse@straße.example"),
        ("straße@straße.example", "strasse@straße.example"),
    ],
)
def test_equal_addresses_have_one_form(sent: str, kept: str) -> None:
    assert EMAIL.check(sent, "a") == kept
    assert EMAIL.check(kept, "a") == kept


@pytest.mark.parametrize(
    "value",
    ["", "ann", "ann@", "@example.com", "ann@example", "ann@localhost", "a b@example.com", '"a b"@example.com',
     "Ann <ann@example.com>", "ann@example.com,bob@example.com", " ann@example.com", "ann@example.com\n",
     "ann@[127.0.0.1]",
     "ann@example.123", "ann@-a.example", "ann@a..example", "ann..b@example.com", "ann@printer.local", "ann@x.invalid",
     f"{'a' * 243}@example.com", f"ann@{'a' * 64}.example", "ann@ab--c.example", "ann@xn--0.example", "é" * 300, "ŉ@e",
     5, ["ann@example.com"], {}],
)  # fmt: skip
def test_other_values_are_no_addresses(value: Any) -> None:
    with pytest.raises(InvalidEntity) as refusal:
        EMAIL.check(value, "a")
    assert [(v.field, v.rule) for v in refusal.value.violations] == [("a", "email")]


TEXTS: Final = st.text("aZ09.-_+!@\"<> (,'", max_size=12)
LABELS: Final = st.text("aZ0-", max_size=5)
DOMAINS: Final = st.lists(LABELS, max_size=4).map(".".join)
ENDINGS: Final = st.sampled_from(["com", "test", "local", "TEST", "arpa", "c0", "1", "onion", "example.com", "", "a-"])
ADDRESSES: Final = st.builds("{}@{}.{}".format, TEXTS, DOMAINS, ENDINGS) | TEXTS | st.emails(domains=DOMAINS)


def by_library(text: str) -> str | None:
    try:
        found = validate_email(text, check_deliverability=False, test_environment=True)
    except EmailNotValidError:
        return None
    return found.normalized.lower() if "." in found.domain else None


@given(ADDRESSES)
@example("a" * 241 + "@example.com")
@example("a" * 242 + "@example.com")
@example("a@" + ".".join(["a" * 63] * 3) + ".ab")
@example("a@" + "a." * 125 + "com")
def test_ascii_addresses_are_decided_as_by_the_library(text: str) -> None:
    assert EMAIL.canonical(text) == (by_library(text) or text)


@given(
    st.text("aÀßςΣİŉẞǰ\u0345\u0301ﬃ", min_size=1, max_size=6),
    st.sampled_from(["ß.example", "Bücher.example", "a.example"]),
)
def test_a_canonical_address_stays_as_it_is(local: str, domain: str) -> None:
    """However letters fold and compose, an accepted address has one form."""
    try:
        kept = EMAIL.check(f"{local}@{domain}", "a")
    except InvalidEntity:
        return
    assert EMAIL.check(kept, "a") == kept


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("+15145550123", "+15145550123"),
        ("001 (514) 555-0123", "+15145550123"),
        ("+1.514.555.0123", "+15145550123"),
        ("030/12345-6", "030123456"),
        ("12345", "12345"),
        ("( 00 ) 12345", "+12345"),
        (" 1-2-3-4-5 ", "12345"),
    ],
)
def test_equal_numbers_have_one_form(sent: str, kept: str) -> None:
    assert PHONE.check(sent, "a") == kept
    assert PHONE.check(kept, "a") == kept


@pytest.mark.parametrize(
    "value",
    ["", "1234", "+1234", "00 1234", "1" * 16, "+" + "1" * 16, "12345x", "1+2345", "++12345", "12345+", "١٢٣٤٥",
     "12\u00a0345", "12345" + "-" * 60, 12345, [], True],
)  # fmt: skip
def test_other_values_are_no_phone_numbers(value: Any) -> None:
    with pytest.raises(InvalidEntity) as refusal:
        PHONE.check(value, "a")
    assert [(v.field, v.rule) for v in refusal.value.violations] == [("a", "phone")]


def test_a_plus_sign_that_arrives_as_a_blank_is_read() -> None:
    """A query string that holds an unencoded `+` means a blank."""
    assert PHONE.check(PHONE.kind.parse(" 1 514 555 0123"), "a") == "+15145550123"
    when = Field("a", "DateTime")
    assert when.check(when.kind.parse("2026-11-26T06:00:00 02:00"), "a") == "2026-11-26 04:00:00"
    assert when.kind.parse("2026-11-26 06:00:00") == "2026-11-26 06:00:00"
