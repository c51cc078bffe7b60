"""Names, media types and signatures of files."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth.secret_key import SecretKey
from hub.media.links import Links
from hub.media.names import is_allowed, renamed, safe_name, type_of
from stores.fields.base import Rejected
from stores.fields.media import NAME_LENGTH, check_file

NAMES = [
    ("front.jpg", "front.jpg"),
    ("../../etc/passwd", "passwd"),
    ("C:\\Users\\ann\\lease.pdf", "lease.pdf"),
    ("a\0b\r\nc.txt", "abc.txt"),
    ("\u202egpj.exe", "gpj.exe"),
    ("  two   words .txt ", "two words .txt"),
    (".htaccess", "htaccess"),
    ("...", "file"),
    ("", "file"),
    (None, "file"),
    ('a<b>:"c"|d?*.png', "a_b___c__d__.png"),
    ("e\u0301.png", "é.png"),
    ("x" * 300 + ".pdf", "x" * 196 + ".pdf"),
    ("x" * 300, "x" * 200),
    ("Договор № 5.pdf", "Договор № 5.pdf"),
]


@pytest.mark.parametrize(("text", "name"), NAMES)
def test_names_are_made_safe(text: str | None, name: str) -> None:
    assert safe_name(text) == name


@given(st.text(max_size=400))
def test_every_name_is_safe(text: str) -> None:
    for name in (safe_name(text), renamed(safe_name(text), "image/webp")):
        assert 0 < len(name) <= NAME_LENGTH
        assert not {"/", "\\", '"', "\n"} & set(name)
        assert not any(unicodedata.category(c) in ("Cc", "Cf", "Cs") for c in name)
        name.encode()


TYPES = [
    (b"%PDF-1.7", "a.txt", "text/html", "application/pdf"),
    (b"\x89PNG\r\n\x1a\n", "a.html", None, "image/png"),
    (b"RIFF1234WEBPVP8 ", "a", None, "image/webp"),
    (b"12345678WEBP", "a.webp", "image/webp", "application/octet-stream"),
    (b"<html>", "a.png", "image/png", "application/octet-stream"),
    (b"<html>", "a.html", "text/html; charset=utf-8", "text/html"),
    (b"text", "a.txt", None, "text/plain"),
    (b"text", "a.txt", "application/octet-stream", "text/plain"),
    (b"text", "a", "*/*", "application/octet-stream"),
    (b"text", "a.csv", "text/" + "x" * 200, "text/csv"),
    (b"", "a.pdf", "application/pdf", "application/octet-stream"),
    (b"", "", "TEXT/Plain", "text/plain"),
]


@pytest.mark.parametrize(("head", "name", "declared", "expected"), TYPES)
def test_the_type_of_a_file(head: bytes, name: str, declared: str | None, expected: str) -> None:
    assert type_of(head, name, declared) == expected


def test_types_of_a_field() -> None:
    assert is_allowed("text/html", ())
    assert is_allowed("text/html", ("application/pdf", "text/*"))
    assert not is_allowed("texts/html", ("text/*",))
    assert not is_allowed("application/zip", ("application/pdf",))


def test_a_signature_is_of_one_key_one_file_and_one_time() -> None:
    links, other = Links(SecretKey.generate()), Links(SecretKey.generate())
    path, _, signature = links.signed("a", 1_000).partition("?sig=")
    assert path == "/media/a"
    assert links.expiry_of("a", signature) == 1_000
    assert links.expiry_of("b", signature) == 0
    assert other.expiry_of("a", signature) == 0
    assert links.expiry_of("a", signature.replace("1000", "2000")) == 0
    assert links.expiry_of("a", signature + "\n") == 0


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5), st.lists, max_leaves=5))
def test_whatever_is_no_file_is_rejected(value: object) -> None:
    """Never with another error than that of the check."""
    example = {"id": "2b1c7a52-6f0d-4a9b-8f5e-0d6c5a1b7e90", "url": value, "type": value, "size": value, "name": value,
               "width": value, "height": value}  # fmt: skip
    for each in (value, example, example | {"id": value}):
        with pytest.raises(Rejected):
            check_file(each)
