"""One-time codes by RFC 6238, and recovery codes."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pyotp
import pytest

from auth.totp import (
    DRIFT,
    RECOVERY_CODES,
    STEP,
    matching_step,
    new_recovery_codes,
    new_secret,
    normal_code,
    provisioning_url,
)

SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"  # the key of RFC 6238, appendix B
NOW = 1_111_111_109


def code_at(seconds: int) -> str:
    return pyotp.TOTP(SECRET).at(seconds)


@pytest.mark.parametrize(("seconds", "code"), [(59, "287082"), (1_111_111_109, "081804"), (20_000_000_000, "353130")])
def test_the_vectors_of_the_rfc(seconds: int, code: str) -> None:
    assert matching_step(SECRET, code, seconds, 0) == seconds // STEP


@pytest.mark.parametrize("offset", range(-DRIFT, DRIFT + 1))
def test_a_clock_may_be_a_step_off(offset: int) -> None:
    assert matching_step(SECRET, code_at(NOW + offset * STEP), NOW, 0) == NOW // STEP + offset


@pytest.mark.parametrize("offset", [-DRIFT - 1, DRIFT + 1])
def test_an_older_or_later_code_is_wrong(offset: int) -> None:
    assert matching_step(SECRET, code_at(NOW + offset * STEP), NOW, 0) is None


def test_a_code_counts_once_and_then_none_before_it() -> None:
    step = matching_step(SECRET, code_at(NOW), NOW, 0)
    assert step is not None
    assert matching_step(SECRET, code_at(NOW), NOW, step) is None
    assert matching_step(SECRET, code_at(NOW - STEP), NOW, step) is None
    assert matching_step(SECRET, code_at(NOW + STEP), NOW, step) == step + 1


@pytest.mark.parametrize("code", ["", "08180", "0818041", "08180a", "٠٨١٨٠٤", "081 804"])
def test_what_is_no_code_is_wrong(code: str) -> None:
    assert matching_step(SECRET, code, NOW, 0) is None


def test_secrets_have_160_bits_and_differ() -> None:
    assert len(new_secret()) == 32
    assert new_secret() != new_secret()


def test_the_url_names_the_login_and_the_issuer() -> None:
    url = urlsplit(provisioning_url(SECRET, "ann@example.com", "hub"))
    assert (url.scheme, url.netloc) == ("otpauth", "totp")
    assert parse_qs(url.query)["secret"] == [SECRET]
    assert parse_qs(url.query)["issuer"] == ["hub"]


def test_recovery_codes_differ_and_can_be_typed_carelessly() -> None:
    codes = new_recovery_codes()
    assert len(set(codes)) == RECOVERY_CODES
    assert all(normal_code(f" {code[:3]} {code[3:].upper()} ") == code for code in codes)
