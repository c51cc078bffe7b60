"""The scopes of a principal, over all stores together."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.principals import user


@pytest.mark.parametrize(
    ("rights", "may"),
    [
        ({}, True),
        ({"admin": True}, True),
        ({"role": "GET /*"}, False),
        ({"role": "GET /*,DELETE /orders/*"}, True),
        ({"role": "* /*", "token": "GET /*"}, False),
        ({"role": "* /*", "token": "PUT /orders/*"}, True),
        ({"role": "POST /orders/*", "token": "* /orders/*"}, True),
        ({"role": "POST /orders/*", "token": "PATCH /orders/*"}, False),
        ({"role": "POST /orders/*", "token": "POST /lines/*"}, False),
        ({"role": "GET /*", "admin": True}, True),
        ({"token": "POST /tokens/*,GET /*"}, False),
        ({"admin": True, "token": "* /users/*"}, False),
    ],
)
def test_who_may_write_somewhere(rights: dict[str, Any], may: bool) -> None:
    """In a store that is not a system store, by the role and the token."""
    assert user(**rights).may_write_somewhere() is may
