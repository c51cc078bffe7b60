"""docs/listings-api.md names every call, parameter and error of the listings API."""

from __future__ import annotations

import pytest

from hub.dialects.listings import errors
from hub.dialects.listings.openapi import OPERATIONS, PARAMETERS
from tests.docs.pages import first_cells, page, rows, section

API = page("listings-api.md")


@pytest.mark.parametrize("call", [f"{o.method} {o.path}" for o in OPERATIONS])
def test_every_call_is_documented(call: str) -> None:
    assert call in first_cells(section(API, "All calls"))


@pytest.mark.parametrize("name", [parameter["name"] for parameter in PARAMETERS["feed"]])
def test_every_parameter_is_documented(name: str) -> None:
    assert any(f"`{name}`" in cells[0] for cells in rows(section(API, "Parameters")))


@pytest.mark.parametrize("text", [*errors.TEXTS.values()])
def test_every_text_is_documented(text: str) -> None:
    assert text in section(API, "Errors")
