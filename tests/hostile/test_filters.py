"""Filters whose cost is conditions times array elements do not block other clients: they are evaluated off the event
loop, within bounds, or refused with an error that names the filter."""

from __future__ import annotations

from typing import Any, Final

import orjson
import pytest

from tests.support.hub import Client, Hub
from tests.support.live import Declined, LiveClient, Watch, live
from tests.support.standstill import no_standstill, read_metrics

MANY: Final = [{}] * 60_000
HUNDRED: Final = {"a": {"$elemMatch": {"$or": [{f"x{n}": 1} for n in range(100)]}}}
"""A hundred conditions, each evaluated for every element."""
TAG: Final = "error_filter_too_costly"


async def test_a_costly_filter_ends_its_live_subscription_by_name(hub: Hub) -> None:
    """Other subscriptions on the store continue, including those with a single condition on the same arrays."""
    user = await hub.as_user()
    store = await hub.define()
    async with live(hub.url, user) as client, no_standstill(hub.url):
        costly = await client.watch(store, filter=HUNDRED)
        also = await client.watch(store, filter={"a.x": 1})
        plain = await client.watch(store, filter={"a": {"$elemMatch": {"x": {"$in": list(range(9_000))}}}})
        made = await user.make(store, {"a": [*MANY, {"x": 1}]})
        await client.until(lambda: costly.ended is not None and made["_id"] in plain.view and made["_id"] in also.view)
        assert costly.ended is not None
        assert costly.ended["tags"][0] == TAG
        assert costly.ended["errors"].keys() == {"filter"}
        small = await user.make(store, {"a": [{"x": 1}]})
        await client.until(lambda: small["_id"] in plain.view)


async def test_costly_filters_of_one_user_are_bounded_together(hub: Hub) -> None:
    """Beyond the bound they end by name. Cheap ones of the same user and those of other users continue."""
    user, other = await hub.as_user(), await hub.as_user()
    store = await hub.define()
    async with live(hub.url, user) as client, live(hub.url, other) as bystander, no_standstill(hub.url):
        costly = [
            await client.watch(store, filter={"$or": [{"a": {"$gt": 10_000 * n + k}} for k in range(150)]})
            for n in range(1, 61)
        ]
        cheap = await client.watch(store, filter={"n": 1})
        seen = await bystander.watch(store)
        made = await user.make(store, {"a": list(range(1_000)), "n": 1})
        theirs = await other.make(store, {"n": 1})
        await client.until(lambda: made["_id"] in cheap.view)
        await bystander.until(lambda: theirs["_id"] in seen.view)
        ended = [watch for watch in costly if watch.ended is not None]
        assert 40 <= len(ended) < 60
        assert {watch.ended["tags"][0] for watch in ended if watch.ended} == {TAG}
    metrics = await read_metrics(hub.url)
    assert metrics.value("hub_limit_reached_total", limit="MOST_USER_STEPS") >= 1


async def test_the_filters_of_one_user_have_a_bound_in_memory(hub: Hub) -> None:
    """A further filter is refused, over any connection, until one has ended. Other users have filters of their own."""
    user, other = await hub.as_user(), await hub.as_user()
    store = await hub.define()
    async with live(hub.url, user) as client, live(hub.url, user) as second, live(hub.url, other) as bystander:
        held: list[Watch] = []
        with pytest.raises(Declined) as refusal:
            await watch_until_refused(client, store, held)
        assert refusal.value.answer["error"]["code"] == "400"
        assert refusal.value.answer["error"]["errors"].keys() == {"filter"}
        assert 10 < len(held) < 40
        with pytest.raises(Declined):
            await second.watch(store, filter=large(100))
        await second.watch(store, filter={"a": 1})
        await bystander.watch(store, filter=large(100))
        await client.ask("unsubscribe", {"channel": held[0].channel})
        await second.watch(store, filter=large(100))
    async with live(hub.url, user) as client:
        for number in range(len(held)):
            await client.watch(store, filter=large(number))


def large(number: int) -> dict[str, Any]:
    """Return a filter of about 150 KB."""
    return {"a": {"$in": [f"{number:06}-{n:06}" for n in range(9_000)]}}


async def watch_until_refused(client: LiveClient, store: str, held: list[Watch]) -> None:
    while len(held) < 100:
        held.append(await client.watch(store, filter=large(len(held))))


async def test_a_costly_filter_does_not_resume(hub: Hub) -> None:
    """Missed changes are matched within the same bound, over REST and live."""
    user = await hub.as_user()
    store = await hub.define()
    position = (await user.get(f"/{store}")).headers["x-position"]
    for _ in range(3):
        await user.make(store, {"a": MANY})
    async with live(hub.url, user) as client, no_standstill(hub.url):
        assert await matched_since(user, store, position, HUNDRED) == TAG
        assert await matched_since(user, store, position, {"a": {"$elemMatch": {"x": None}}}) == 3
        watch = await client.watch(store, snapshot=False, since=position, filter=HUNDRED)
        await client.until(lambda: watch.ended is not None)
        assert watch.ended is not None
        assert watch.ended["tags"][0] == TAG


async def test_terms_that_lead_into_long_arrays(hub: Hub) -> None:
    """Subscriptions by equality are found by the values of the changed entity. This lookup is bounded too, and each
    subscription still receives its events."""
    user = await hub.as_user()
    store = await hub.define()
    async with live(hub.url, user) as client, no_standstill(hub.url):
        watches = [await client.watch(store, filter={f"a.x{n}": 1}) for n in range(20)]
        made = await user.make(store, {"a": [*MANY[:5_000], {"x7": 1}]})
        await client.until(lambda: made["_id"] in watches[7].view)
        assert [w for w in watches if w.view] == [watches[7]]


async def matched_since(user: Client, store: str, position: str, filter: dict[str, Any]) -> Any:
    """Return the number of changes since `position` that match the filter, or the first tag of the error."""
    answer = await user.get(f"/{store}", {"since": position, "filter": dumps(filter)})
    if answer.status_code == 400:
        assert answer.json()["errors"].keys() == {"filter"}
        return answer.json()["tags"][0]
    return len(answer.json()["changes"])


async def test_costly_filters_are_answered_off_the_loop(hub: Hub) -> None:
    """REST answers them completely: lists, counts and bulk changes, by elements, texts and values."""
    user = await hub.as_user()
    store = await hub.define(search=["text"])
    await user.make(store, {"a": MANY[:30_000], "text": "a" * 400_000})
    costly: list[dict[str, Any]] = [
        HUNDRED,
        {"a": {"$elemMatch": {"x": {"$in": list(range(5_000))}}}},
        {"a.x": {"$all": list(range(5_000))}},
        {"text": {"$contains": "a" * 1_999 + "b"}},
        {"$nor": [{"a": {"$elemMatch": {"x": None}}}]},
    ]
    async with no_standstill(hub.url):
        for document in costly:
            filter = {"filter": dumps(document)}
            assert (await user.list(store, filter)) == []
            assert (await user.get(f"/{store}", filter | {"meta": "true"})).json()["count"] == 0
            assert (await user.patch(f"/{store}", {"n": 5}, filter)).json()["count"] == 0
            assert (await user.delete(f"/{store}", filter)).json()["count"] == 0
        for text in ("A" * 999 + "b", "É" * 1_000, "θ" * 1_000):
            assert (await user.list(store, {"search": text})) == []
        assert len(await user.list(store, {"filter": dumps({"a": {"$elemMatch": {"x": None}}}), "only": "n"})) == 1


async def test_a_long_text_to_search_for_is_refused(hub: Hub) -> None:
    user = await hub.as_user()
    store = await hub.define(search=["text"])
    for parameters in ({"text[contains]": "a" * 30_000}, {"text[startswith]": "a" * 2_001}, {"search": "a" * 1_001}):
        assert (await user.get(f"/{store}", parameters)).status_code == 400


def dumps(document: dict[str, Any]) -> str:
    return orjson.dumps(document).decode()
