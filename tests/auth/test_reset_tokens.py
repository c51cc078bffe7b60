"""Reset tokens are for one user, one password and half an hour."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from auth.errors import Unauthenticated
from auth.reset_tokens import MINUTES, check_claim, new_token, read_claim
from auth.secret_key import SecretKey
from stores.records import new_id

KEY = SecretKey(b"k" * 32)
USER = {"_id": new_id(), "password": "$argon2id$old", "email": "ann@example.com"}
NOW = 1_700_000_000_000


def accept(token: str, user: dict[str, Any] | None = USER, now: int = NOW, key: SecretKey = KEY) -> None:
    check_claim(key, read_claim(token), user, now)


def test_a_token_is_accepted_for_its_user_until_it_expires() -> None:
    token = new_token(KEY, USER, NOW)
    assert read_claim(token).user_id == USER["_id"]
    accept(token, now=NOW + MINUTES * 60_000 - 1)


@pytest.mark.parametrize(
    ("user", "now", "key"),
    [
        (USER | {"password": "$argon2id$new"}, NOW, KEY),
        (USER | {"email": "other@example.com"}, NOW, KEY),
        (USER | {"_id": new_id()}, NOW, KEY),
        (None, NOW, KEY),
        (USER, NOW + MINUTES * 60_000, KEY),
        (USER, NOW, SecretKey(b"x" * 32)),
    ],
    ids=["password", "email", "user", "gone", "expired", "key"],
)
def test_a_token_is_refused_when_something_differs(user: dict[str, Any] | None, now: int, key: SecretKey) -> None:
    token = new_token(KEY, USER, NOW)
    with pytest.raises(Unauthenticated):
        accept(token, user, now, key)


def test_a_later_expiry_cannot_be_forged() -> None:
    claim = read_claim(new_token(KEY, USER, NOW))
    forged = base64.urlsafe_b64encode(f"{claim.user_id}.{claim.expires + 1}.{claim.signature}".encode()).decode()
    with pytest.raises(Unauthenticated):
        accept(forged.rstrip("="))


@pytest.mark.parametrize("token", ["", "x", "é", "a.b.c", "!!!!", "AAAA", "YS5iLmM", "MS4yLjM", "a" * 10_000])
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(Unauthenticated):
        read_claim(token)
