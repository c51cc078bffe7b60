"""Large bodies do not block other clients: their size is bounded, and they are parsed piecewise in a thread."""

from __future__ import annotations

from collections.abc import Callable

import orjson
import pytest

from tests.platform.answers import refused
from tests.support.hub import Hub, StartHub
from tests.support.standstill import no_standstill

ENTITY = {"name": "Truck", "tags": ["a", "b"], "address": {"city": "Laval"}, "rows": [{"k": n} for n in range(10)]}


async def test_a_large_array_of_many_values(hub: Hub) -> None:
    """Five thousand entities with many values and some text: 40 MB, 250 000 values."""
    user = await hub.as_user()
    store = await hub.define()
    body = orjson.dumps([{**ENTITY, "n": n, "text": "é," * 2_700} for n in range(5_000)])
    async with no_standstill(hub.url):
        answer = await user.send("POST", f"/{store}", body)
        assert answer.status_code == 200, answer.text[:500]
        refused(await user.send("POST", f"/{store}", body[:-1]), 400, "body")
        broken = body.replace(b'"n":4321,', b'"$n":4321,')
        refused(await user.send("POST", f"/{store}", broken), 400, "4321.$n")
    assert (await user.get(f"/{store}", {"meta": "true", "only": "n"})).json()["count"] == 5_000


@pytest.fixture(scope="module")
async def shared(sqlite_hub: StartHub) -> Hub:
    """One hub for all requests that do not reach the engine."""
    return await sqlite_hub()


@pytest.mark.engine("sqlite")
@pytest.mark.parametrize(
    ("make_body", "name"),
    [
        (lambda: b"[" + b"[]," * 20_000_000 + b"[]]", "0"),
        (lambda: b'[{"a":[' + b"0," * 20_000_000 + b"0]}]", "0"),
        (lambda: b'[{"a":[' + b"[]," * 30_000 + b'1]},{"b":0}]', None),
        (lambda: b"[" + b",".join([b'{"a":[' + b"[]," * 30_000 + b"[]]}"] * 100) + b"]", "body"),
        (lambda: b"[" + b'{"a":1},' * 5_000_000 + b'{"a":1}]', "body"),
        (lambda: b'{"a":[' + b"[]," * 300_000 + b"[]]}", "body"),
        (lambda: b'[{"a":"' + b"},{" * 10_000_000 + b'"}]', "0"),
        (lambda: b'[{"a":1},{"b":"' + b'},{"a":' * 5_000_000, "1"),
    ],
    ids=["arrays", "numbers", "allowed", "many entities", "small entities", "one entity", "a text", "no end"],
)
async def test_a_body_of_very_many_values_is_refused(
    shared: Hub, make_body: Callable[[], bytes], name: str | None
) -> None:
    """The error names the item or the body, and comes before the whole body is in memory as values."""
    user = await shared.as_user()
    store, body = await shared.define(), make_body()
    async with no_standstill(shared.url):
        answer = await user.send("POST", f"/{store}", body)
        if name is None:
            assert answer.status_code == 200
        else:
            refused(answer, 400, name)
