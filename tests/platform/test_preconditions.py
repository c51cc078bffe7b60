"""Preconditions are honoured or refused, never ignored."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from hub.dialects.platform.parameter_components import shared_parameters
from stores.records import Entity
from tests.platform.answers import refused
from tests.support.hub import Client, Hub, entity_of


async def write(client: Client, method: str, path: str, **headers: str) -> Any:
    body = {"access": []} if path.endswith("/access") else {"n": 2}
    more = {} if method == "DELETE" else {"json": body}
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.request(method, path, headers=sent, **more)


SENT_ETAGS = shared_parameters(10)["ifMatch"]["schema"]
"""Their schema in the OpenAPI document."""
WRITES = [("PATCH", ""), ("PUT", ""), ("DELETE", ""), ("PUT", "/access")]


@pytest.mark.parametrize(("method", "end"), WRITES)
async def test_if_none_match_is_honoured_by_writes(user: Client, store: str, method: str, end: str) -> None:
    """The answer is 412 if the entity has a listed revision, or exists and the header is `*`. Otherwise the write is
    done."""
    made = await user.make(store, n=1)
    path = f"/{store}/{made['_id']}{end}"
    for header in ('"1"', "*", '"7", "1"', 'W/"1"'):
        refused(await write(user, method, path, if_none_match=header), 412)
    refused(await write(user, method, path, if_match='"1"', if_none_match='"1"'), 412)
    refused(await write(user, method, path, if_none_match="1"), 400, "If-None-Match")
    refused(await write(user, method, path, if_unmodified_since="Mon, 07 Dec 2026 04:44:21 GMT"), 400)
    assert await user.see(store, made["_id"]) == made
    assert (await write(user, method, path, if_none_match='"2", "x"')).status_code == 200


@pytest.mark.parametrize(("method", "end"), WRITES)
async def test_a_tag_that_a_proxy_has_weakened_is_as_good(user: Client, store: str, method: str, end: str) -> None:
    """As nginx does when it compresses an answer: it still names a revision, and another one is refused."""
    made = await user.make(store, n=1)
    path = f"/{store}/{made['_id']}{end}"
    refused(await write(user, method, path, if_match='W/"2"'), 412)
    assert (await write(user, method, path, if_match='W/"1"')).status_code == 200


@pytest.mark.parametrize(("method", "end"), WRITES)
async def test_if_match_is_honoured_by_writes(user: Client, store: str, method: str, end: str) -> None:
    """This includes sharing."""
    made = await user.make(store, n=1)
    path = f"/{store}/{made['_id']}{end}"
    refused(await write(user, method, path, if_match='"2"'), 412)
    assert await user.see(store, made["_id"]) == made
    assert (await write(user, method, path, if_match='"1"')).status_code == 200


@pytest.mark.parametrize("header", ["If-Match", "If-None-Match"])
@pytest.mark.parametrize("value", ["1", "nonsense", '"1', '"1" "2"', '"2", 1', '> W"z\'H"j', "*, *", '"a b"', ","])
async def test_a_header_that_is_no_list_of_etags_is_refused(user: Client, store: str, header: str, value: str) -> None:
    """A header of which the hub reads a part would protect in part. Only a read with If-None-Match is answered: that
    saves an answer at most."""
    made = await user.make(store, n=1)
    path = f"/{store}/{made['_id']}"
    pattern = SENT_ETAGS["pattern"]
    assert not re.search(pattern, value)
    for method, end in WRITES:
        refused(await write(user, method, path + end, **{header: value}), 400, header)
    read = await user.request("GET", path, headers={header: value})
    if header == "If-Match":
        refused(read, 400, header)
    else:
        assert entity_of(read) == made


@pytest.mark.parametrize("value", ['"1"', 'W/"1"', '"1", "x"', '"1","2"', ',"7" ,, W/"1",', "*"])
async def test_lists_of_etags_are_read_as_rfc_9110_says(user: Client, store: str, value: str) -> None:
    """Empty elements count for nothing (5.6.1.2)."""
    made = await user.make(store, n=1)
    path = f"/{store}/{made['_id']}"
    assert re.search(SENT_ETAGS["pattern"], value)
    refused(await write(user, "PATCH", path, if_none_match=value), 412)
    assert (await write(user, "PATCH", path, if_match=value)).status_code == 200


async def test_several_lines_of_one_condition_count_together(user: Client, store: str) -> None:
    """RFC 9110, 5.3, requires this for every list header."""
    made = await user.make(store, n=1)
    path = f"/{store}/{made['_id']}"
    for lines, status in (
        ([("If-None-Match", '"7"'), ("If-None-Match", '"1"')], 412),
        ([("If-Match", '"7"'), ("If-Match", '"1"')], 200),
    ):
        assert (await user.request("PATCH", path, json={"n": 2}, headers=lines)).status_code == status


async def test_a_read_honours_if_match(user: Client, store: str) -> None:
    made = await user.make(store, n=1)
    path = f"/{store}/{made['_id']}"
    refused(await user.get(path, if_match='"2"'), 412)
    assert entity_of(await user.get(path, if_match='"1"')) == made


async def test_a_system_entity_honours_if_none_match(hub: Hub, admin: Client) -> None:
    group = await hub.group()
    refused(await admin.patch(f"/groups/{group}", {"name": "x"}, if_none_match='"1"'), 412)
    refused(await admin.put(f"/groups/{group}", {"name": "x"}, if_none_match="*"), 412)
    assert entity_of(await admin.patch(f"/groups/{group}", {"name": "x"}, if_none_match='"2"'))["_rev"] == 2


async def test_if_none_match_is_decided_with_the_write(user: Client, store: str) -> None:
    """Of several concurrent writes with `If-None-Match` on revision 2, one succeeds."""
    made = await user.make(store, n=0)
    path = f"/{store}/{made['_id']}"
    answers = await asyncio.gather(*(user.patch(path, {"n": n}, if_none_match='"2"') for n in range(1, 6)))
    assert sorted(answer.status_code for answer in answers) == [200, 412, 412, 412, 412]
    assert (await user.see(store, made["_id"]))["_rev"] == 2


CALLS: list[tuple[str, str, Any]] = [
    ("PATCH", "/{store}?n=1", {"n": 2}),
    ("DELETE", "/{store}?n=1", None),
    ("POST", "/{store}?upsert=code", {"code": "a", "n": 2}),
    ("POST", "/{store}", {"n": 2}),
    ("DELETE", "/auth", None),
]


@pytest.mark.parametrize(("method", "path", "body"), CALLS)
@pytest.mark.parametrize(
    ("header", "value"),
    [("If-Match", '"1"'), ("If-Match", "*"), ("If-None-Match", "*"), ("If-Unmodified-Since", "x")],
)
async def test_a_precondition_that_cannot_be_honoured_is_refused(
    user: Client, store: str, method: str, path: str, body: Entity | None, header: str, value: str
) -> None:
    """The answer is 400 with the header, and nothing is changed."""
    made = await user.make(store, code="a", n=1)
    answer = await user.request(method, path.replace("{store}", store), json=body, headers={header: value})
    refused(answer, 400, header)
    assert await user.list(store) == [made]


async def test_a_list_ignores_what_only_saves_an_answer(user: Client, store: str) -> None:
    made = await user.make(store, n=1)
    assert (await user.get(f"/{store}", if_none_match="*")).json() == [made]
    refused(await user.get(f"/{store}", if_match='"1"'), 400, "If-Match")
