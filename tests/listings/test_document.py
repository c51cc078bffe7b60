"""The OpenAPI document: it is valid, complete, and true of real answers."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from hub.dialects.listings.openapi import OPERATIONS
from tests.listings.support import Tenant, Tenants

Json = dict[str, Any]


@pytest.fixture(scope="module")
async def document(tenants: Tenants) -> Json:
    answer = await tenants.client().get("/openapi.json")
    assert answer.status_code == 200
    found: Json = answer.json()
    return found


def check(document: Json, method: str, path: str, status: int, body: object) -> None:
    """Check a body against the schema of the document for an answer with this status."""
    response = document["paths"][path][method]["responses"][str(status)]
    schema = response["content"]["application/json"]["schema"]
    Draft202012Validator({**schema, "components": document["components"]}).validate(body)


def test_it_is_valid(document: Json) -> None:
    validate(document)


def test_it_has_every_operation(document: Json) -> None:
    described = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert described == {(operation.method, operation.path) for operation in OPERATIONS}
    names = [call["operationId"] for item in document["paths"].values() for call in item.values()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("path", [each.path for each in OPERATIONS if each.method == "GET"])
async def test_its_schemas_are_those_of_real_answers(document: Json, tenant: Tenant, path: str) -> None:
    empty = dict.fromkeys(["latitude", "longitude", "bedrooms", "floor_size", "region", "amenities"])
    first, second = await tenant.add(), await tenant.add(**empty)
    for listing in (first, second):
        await tenant.add_image(listing, "a")
    for number in (first["number"], second["number"]):
        address = path.replace("{user_id}", str(tenant.number)).replace("{id}", str(number))
        answer = await tenant.reader.get(address)
        assert answer.status_code == 200, answer.text
        check(document, "get", path, 200, answer.json())


@pytest.mark.parametrize(
    ("path", "query", "status"),
    [
        ("/v1/{user_id}/properties/", "?min_price=x", 400),
        ("/v1/{user_id}/properties/", "?cursor=x", 404),
        ("/v1/{user_id}/properties/{id}/", "", 404),
        ("/v1/{user_id}/account/", "", 403),
        ("/v1/amenities/", "", 401),
    ],
)
async def test_its_errors_are_real_ones(
    document: Json, tenants: Tenants, tenant: Tenant, path: str, query: str, status: int
) -> None:
    client = tenants.client() if status == 401 else tenant.reader
    number = 999_999 if status == 403 else tenant.number
    address = path.replace("{user_id}", str(number)).replace("{id}", "0") + query
    answer = await client.get(address.removeprefix("/v1") if status == 401 else address)
    assert answer.status_code == status
    check(document, "get", path, status, answer.json())
