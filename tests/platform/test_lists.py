"""Lists: ranges, projections, order, periods of creation, and paging."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from stores.records import Entity, now_ms
from tests.platform.answers import good, refused
from tests.support.hub import Client, Hub, eventually

MANY = 10_050


@pytest.fixture(scope="module")
async def crowd(hub: Hub, user: Client) -> str:
    """A store with `n` from 0 to MANY - 1; tests do not change it."""
    store = await hub.define()
    made = await user.make_all(store, [{"n": n} for n in range(10_000)])
    made += await user.make_all(store, [{"n": n} for n in range(10_000, MANY)])
    return store


async def spread(user: Client, store: str, count: int) -> list[Entity]:
    """Create entities one after the other, so that their times differ."""
    made: list[Entity] = []
    for n in range(count):
        made.append(await user.make(store, n=n))
        await eventually(lambda: _is_past(made[-1]["time"]))
    return made


async def _is_past(ms: int) -> bool:
    return now_ms() > ms


def numbers(entities: list[Entity]) -> list[int]:
    return [e["n"] for e in entities]


def next_page(answer: httpx.Response) -> str | None:
    """Return the query of the next page in the Link header."""
    link = answer.links.get("next")
    return link["url"].partition("?")[2] if link else None


async def walk(user: Client, store: str, query: str) -> list[Entity]:
    """Read all pages by following the Link headers."""
    found: list[Entity] = []
    following: str | None = query
    while following is not None:
        answer = await user.get(f"/{store}?{following}")
        found += good(answer)
        following = next_page(answer)
    return found


async def test_a_list_is_a_bare_array(user: Client, store: str) -> None:
    """It is in order of creation, and ``[]`` for an empty store. The position belongs to this content."""
    answer = await user.get(f"/{store}")
    assert answer.content == b"[]"
    assert answer.headers["x-position"]
    assert "link" not in answer.headers
    made = [await user.make(store, n=n) for n in (3, 1, 2)]
    assert good(await user.get(f"/{store}")) == made


async def test_offset_and_limit_cut_a_stretch(user: Client, store: str) -> None:
    """`offset=2` begins with the third entity; beyond the end the list is empty."""
    await user.make_all(store, [{"n": n} for n in range(6)])
    cases: list[tuple[str, list[int]]] = [
        ("offset=2", [2, 3, 4, 5]),
        ("limit=2", [0, 1]),
        ("offset=4&limit=5", [4, 5]),
        ("offset=0&limit=0", []),
        ("offset=6", []),
        ("offset=999999999999999", []),
        ("sort=-n&offset=1&limit=2", [4, 3]),
    ]
    for query, expected in cases:
        assert numbers(await user.list(f"{store}?{query}")) == expected, query


@pytest.mark.parametrize("name", ["offset", "limit"])
@pytest.mark.parametrize("text", ["-1", "x", "1.5", "", "1e3", "٣", "0x10", "null", "9" * 30])
async def test_offset_and_limit_are_whole_numbers(user: Client, bare: str, name: str, text: str) -> None:
    """Negative values and text are answered 400 with the parameter."""
    refused(await user.get(f"/{bare}", {name: text}), 400, name)


async def test_a_list_is_at_most_ten_thousand_long(user: Client, crowd: str) -> None:
    """This is the default and the maximum; the next range begins at ``offset=10000``."""
    for query in ("", "?limit=10001", "?limit=100000000"):
        answer = await user.get(f"/{crowd}{query}")
        assert numbers(good(answer)) == list(range(10_000))
        assert next_page(answer) is not None
    assert numbers(await user.list(f"{crowd}?offset=10000&limit=1000")) == list(range(10_000, MANY))


async def test_a_long_list_is_streamed(user: Client, crowd: str) -> None:
    """It arrives in many pieces, and its headers arrive before its end."""
    async with user.http.stream("GET", f"/{crowd}") as answer:
        assert answer.headers["transfer-encoding"] == "chunked"
        assert answer.headers["x-position"]
        pieces = [piece async for piece in answer.aiter_bytes()]
    assert len(pieces) > 1
    assert numbers(json.loads(b"".join(pieces))) == list(range(10_000))


async def test_a_reader_who_leaves_a_long_list_harms_nobody(user: Client, crowd: str) -> None:
    """Eight readers disconnect midway; the next one receives everything."""
    for _ in range(8):
        async with user.http.stream("GET", f"/{crowd}") as answer:
            await anext(answer.aiter_bytes())
    assert len(await user.list(crowd)) == 10_000


@pytest.mark.gate("sqlite", "mongodb")
async def test_the_links_lead_through_everything(user: Client, crowd: str) -> None:
    """Pages have no gap and no duplicate, and the last one has no link."""
    assert numbers(await walk(user, crowd, "limit=3000")) == list(range(MANY))
    assert numbers(await walk(user, crowd, "limit=5025&sort=-n")) == list(range(MANY - 1, -1, -1))


async def test_the_links_keep_filter_and_projection(user: Client, store: str) -> None:
    """The next page belongs to the same list, whatever characters its parameters contain."""
    await user.make_all(store, [{"n": n, "a b&c": "é+%" if n % 2 else "no", "m": n} for n in range(20)])
    found = await walk(user, store, f"limit=3&only=n&{quote('a b&c')}={quote('é+%')}")
    assert numbers(found) == list(range(1, 20, 2))
    assert all(e.keys() == {"_id", "n"} for e in found)


@pytest.mark.gate("sqlite", "mongodb")
async def test_paging_is_steady_while_others_write(user: Client, store: str) -> None:
    """Entities that exist throughout appear exactly once, despite concurrent insertions and deletions."""
    steady = await user.make_all(store, [{"key": 2 * n, "steady": True} for n in range(60)])
    passing = await user.make_all(store, [{"key": 2 * n + 1} for n in range(60)])
    found: list[Entity] = []
    query: str | None = "limit=10&sort=key"
    while query is not None:
        answer = await user.get(f"/{store}?{query}")
        found += good(answer)
        query = next_page(answer)
        for doomed in passing[:6]:
            await user.delete(f"/{store}/{doomed['_id']}")
        passing = passing[6:]
        await user.make_all(store, [{"key": 0}, {"key": 200}, {"key": found[-1]["key"]}])
        assert len(found) < 500
    ids = [e["_id"] for e in found]
    assert len(ids) == len(set(ids))
    assert [e["_id"] for e in found if e.get("steady")] == [e["_id"] for e in steady]


@pytest.mark.gate("sqlite", "mongodb")
@pytest.mark.parametrize("sort", ["v", "-v", "v,-n", "place.city", "-place.city,n"])
async def test_paging_goes_through_every_type_of_value(user: Client, store: str, sort: str) -> None:
    """Missing, null, numbers, texts, objects, arrays and booleans sort in this order, in pages and as a whole."""
    values: list[Any] = [None, 5, -1.5, "b", "a", {"x": 1}, [2], [], True, False, "a", 5]
    bodies: list[Entity] = [{"v": v, "n": n, "place": {"city": v}} for n, v in enumerate(values)]
    await user.make_all(store, [*bodies, {"n": 98}, {"n": 99}])
    whole = await user.list(store, {"sort": sort})
    assert len(whole) == 14
    assert await walk(user, store, f"limit=3&sort={sort}") == whole


async def test_a_cursor_belongs_to_its_sort(user: Client, store: str) -> None:
    """Forged cursors and cursors of another sort are refused; `offset` counts from the cursor."""
    await user.make_all(store, [{"n": n} for n in range(4)])
    answer = await user.get(f"/{store}?limit=2&sort=n")
    cursor = httpx.QueryParams(next_page(answer) or "")["after"]
    assert numbers(await user.list(store, {"sort": "n", "after": cursor})) == [2, 3]
    refused(await user.get(f"/{store}", {"sort": "-n", "after": cursor}), 400, "after")
    refused(await user.get(f"/{store}", {"after": cursor}), 400, "after")
    assert numbers(await user.list(store, {"sort": "n", "after": cursor, "offset": "1"})) == [3]
    for forged in ("", "x", "AAAA", cursor[:-4], "=" + cursor, "é", "\0"):
        refused(await user.get(f"/{store}", {"sort": "n", "after": forged}), 400, "after")


@pytest.mark.parametrize("query", ["sort=text", "sort=-text", "sort=text&offset=1", "only=n&sort=text,n"])
async def test_a_long_sort_key_does_not_make_a_long_link(user: Client, store: str, query: str) -> None:
    """The link has an offset instead of the cursor, counted from the last short cursor; the pages are complete."""
    texts = ["a", "b", "c" * 60_000, "d" * 60_000, "e" * 60_000, "f", "g"]
    await user.make_all(store, [{"n": n, "text": text} for n, text in enumerate(texts)])
    whole = await user.list(f"{store}?{query}")
    assert await walk(user, store, f"limit=1&{query}") == whole
    assert await walk(user, store, f"limit=2&{query}") == whole
    answer = await user.get(f"/{store}?sort=text&limit=3")
    assert next_page(answer) == "sort=text&limit=3&offset=3"


async def test_only_lists_the_fields_to_show(user: Client, store: str) -> None:
    """The id is always included, dotted paths select inside objects, and unknown names select nothing."""
    made = await user.make(store, name="a", description="b", place={"city": "Oslo", "geo": {"lat": 1, "lon": 2}}, n=1)
    id = {"_id": made["_id"]}
    cases: list[tuple[str, Entity]] = [
        ("name,description", {"name": "a", "description": "b"}),
        ("n", {"n": 1}),
        ("_id", {}),
        ("place.city", {"place": {"city": "Oslo"}}),
        ("place.geo.lat,n", {"place": {"geo": {"lat": 1}}, "n": 1}),
        ("place", {"place": made["place"]}),
        ("nothing", {}),
        ("name, n", {"name": "a", "n": 1}),
        ("owner,_rev", {"owner": user.id, "_rev": 1}),
    ]
    for only, shown in cases:
        assert await user.list(store, {"only": only}) == [id | shown], only
    for bad in ("", ",", "name,", "a..b", "$where", ".a"):
        answer = await user.get(f"/{store}", {"only": bad})
        assert refused(answer, 400), bad


async def test_meta_counts_and_shows_both_ends(user: Client, store: str) -> None:
    """Meta has the number of entities, and the first and last by creation, or null if there are none. Filters apply."""
    assert good(await user.get(f"/{store}?meta=true")) == {"success": True, "count": 0, "first": None, "last": None}
    made = await spread(user, store, 4)
    answer = await user.get(f"/{store}?meta=true")
    assert good(answer) == {"success": True, "count": 4, "first": made[0], "last": made[-1]}
    assert answer.headers["x-position"]
    filtered = good(await user.get(f"/{store}?meta=true&n[in]=1,2&only=n"))
    ends = {"first": {"_id": made[1]["_id"], "n": 1}, "last": {"_id": made[2]["_id"], "n": 2}}
    assert filtered == {"success": True, "count": 2, **ends}
    period = {"meta": "true", "from": str(made[1]["time"]), "to": str(made[3]["time"])}
    assert good(await user.get(f"/{store}", period))["count"] == 3
    assert good(await user.get(f"/{store}?meta=false")) == made


@pytest.mark.parametrize("other", ["offset=0", "limit=10", "offset=1&limit=1"])
async def test_meta_does_not_go_with_a_stretch(user: Client, bare: str, other: str) -> None:
    """With `offset` or `limit` the answer is 400."""
    refused(await user.get(f"/{bare}?meta=true&{other}"), 400, other.split("=")[0])
    refused(await user.get(f"/{bare}?meta=yes"), 400, "meta")


async def test_a_period_of_creation_includes_both_ends(user: Client, store: str) -> None:
    """`from`/`to` and `begin`/`end` mean the same. Times are in Unix ms or ISO 8601, in UTC if they have no zone."""
    made = await spread(user, store, 4)
    first, last = made[1]["time"], made[2]["time"]
    assert numbers(await user.list(store, {"from": first, "to": last})) == [1, 2]
    assert numbers(await user.list(store, {"begin": first, "end": last})) == [1, 2]
    assert numbers(await user.list(store, {"from": first, "end": last})) == [1, 2]
    assert numbers(await user.list(store, {"from": last})) == [2, 3]
    assert numbers(await user.list(store, {"to": first})) == [0, 1]
    assert numbers(await user.list(store, {"from": first + 1, "to": last - 1})) == []
    for start, end in ((_iso(first), _iso(last)), (_iso(first) + "Z", _iso(last) + "+00:00")):
        assert numbers(await user.list(store, {"from": start, "to": end})) == [1, 2], (start, end)
    assert numbers(await user.list(store, {"from": "2020-01-01T00:00", "to": "2020-01-01"})) == []
    assert len(await user.list(store, {"from": "2020-01-01", "to": "2999-12-31T23:59"})) == 4


def _iso(ms: int) -> str:
    return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{ms % 1000:03}"


async def test_a_zone_in_a_time_counts(user: Client, store: str) -> None:
    """``+02:00`` is two hours earlier in UTC, percent-encoded or not."""
    made = await user.make(store, n=0)
    there = _iso(made["time"] + 2 * 3_600_000)
    assert numbers(await user.list(f"{store}?from={there}%2B02:00&to={there}%2B02:00")) == [0]
    assert numbers(await user.list(f"{store}?from={there}+02:00&to={there}+02:00")) == [0]
    assert await user.list(f"{store}?from={there}Z") == []


@pytest.mark.parametrize(
    "text",
    [
        "yesterday",
        "",
        "2020-13-01",
        "2020-02-30T00:00",
        "-5",
        "1.5",
        "99999999999999999999",
        "0000000001795409035355",
        "2020-01-01T25:00",
    ],
)
@pytest.mark.parametrize("name", ["from", "to", "begin", "end"])
async def test_a_bad_time_is_refused(user: Client, bare: str, name: str, text: str) -> None:
    """The answer is 400 with the parameter."""
    refused(await user.get(f"/{bare}", {name: text}), 400, name)


async def test_equal_names_of_a_period_do_not_go_together(user: Client, store: str) -> None:
    """`from` with `begin`, `to` with `end`, and any repeated parameter are answered 400."""
    refused(await user.get(f"/{store}?from=1&begin=1"), 400, "begin")
    refused(await user.get(f"/{store}?to=1&end=1"), 400, "end")
    refused(await user.get(f"/{store}?limit=1&limit=2"), 400, "limit")


async def test_sort_orders_by_several_fields(user: Client, store: str) -> None:
    """A minus means descending; ties are broken by the next field and finally by id."""
    rows = [("b", 1), ("a", 2), ("b", 2), ("a", 1), ("a", 2)]
    made = await user.make_all(store, [{"name": name, "price": price} for name, price in rows])
    order = {id: n for n, id in enumerate(sorted(e["_id"] for e in made))}
    by_price = sorted(made, key=lambda e: (-e["price"], e["name"], order[e["_id"]]))
    assert await user.list(store, {"sort": "-price,name"}) == by_price
    by_name = sorted(made, key=lambda e: (e["name"], e["price"], order[e["_id"]]))
    assert await user.list(store, {"sort": "name,price"}) == by_name
    assert await user.list(store, {"sort": "_id"}) == sorted(made, key=lambda e: e["_id"])
    assert await user.list(store, {"sort": "-_id"}) == sorted(made, key=lambda e: e["_id"], reverse=True)


@pytest.mark.parametrize("sort", ["", "-", "name,", "name,name", "a..b", "$a", "a.0", ",".join("abcdefghijklmnopq")])
async def test_a_bad_sort_is_refused(user: Client, bare: str, sort: str) -> None:
    """Empty sorts, repeated fields, array indexes and too many fields are refused."""
    assert refused(await user.get(f"/{bare}", {"sort": sort}), 400)


async def test_search_looks_into_the_text_fields_whatever_the_case(user: Client, store: str) -> None:
    """Any searchable field may contain the text; letters of every script are case-folded; no character is special."""
    titles = ["Grand HOTEL", "hostel", "ÄRGER im Büro", "50% off_now", "Ωmega", None, 7, "STRAẞE", "İstanbul"]
    await user.make_all(store, [{"n": n, "title": title, "other": "hotel"} for n, title in enumerate(titles)])
    await user.make(store, n=9, title="x", place={"city": "Hotelville"})
    cases: list[tuple[str, list[int]]] = [
        ("hotel", [0, 9]),
        ("HO", [0, 1, 9]),
        ("ärger", [2]),
        ("BÜRO", [2]),
        ("0% OFF_", [3]),
        ("ωMEGA", [4]),
        (".*", []),
        ("%", [3]),
        ("straße", [7]),
        ("strasse", []),
        ("istanbul", []),
        ("İSTANBUL", [8]),
        ("motel", []),
        ("7", []),
    ]
    for text, found in cases:
        assert numbers(await user.list(store, {"search": text})) == found, text
    assert numbers(await user.list(store, {"search": "ho", "n[gt]": "0", "limit": "1"})) == [1]
    assert good(await user.get(f"/{store}", {"search": "ho", "meta": "true"}))["count"] == 3


async def test_search_needs_searchable_fields(hub: Hub, user: Client, store: str) -> None:
    """A store without searchable fields refuses a search; NUL is refused; an empty search is ignored."""
    refused(await user.get(f"/{await hub.define()}", {"search": "a"}), 400, "search")
    refused(await user.get(f"/{await hub.define()}", {"search": ""}), 400, "search")
    refused(await user.get(f"/{store}", {"search": "a\0"}), 400, "search")
    await user.make(store, title="a")
    assert len(await user.list(store, {"search": ""})) == 1


async def test_the_count_of_a_list_is_the_one_of_its_meta(user: Client, other: Client, crowd: str) -> None:
    """This holds for the owner of all entities and for a user who sees none."""
    assert good(await user.get(f"/{crowd}?meta=true"))["count"] == MANY
    assert good(await user.get(f"/{crowd}?meta=true&n[lt]=100"))["count"] == 100
    assert good(await other.get(f"/{crowd}?meta=true"))["count"] == 0


async def test_a_list_that_is_asked_for_again_is_read_by_the_current_definition(hub: Hub, user: Client) -> None:
    """The parsed request is kept; the type of a field decides what a value in it means."""
    store = await hub.define(fields=[{"id": "code", "type": "Text"}])
    await user.make(store, code="7")
    for _ in range(2):
        assert len(await user.list(store, {"code": "7"})) == 1
        refused(await user.get(f"/{store}", {"size": "7"}), 400, "size")
    [definition] = await hub.admin.list("stores", {"name": store})
    body = {"fields": [{"id": "size", "type": "Text"}], "data": {"rename": {"code": "size"}}}
    changed = await hub.admin.patch(f"/stores/{definition['_id']}", body)
    assert changed.status_code == 200, changed.text
    refused(await user.get(f"/{store}", {"code": "7"}), 400, "code")
    assert len(await user.list(store, {"size": "7"})) == 1


async def test_a_list_that_is_asked_for_again_is_read_by_the_current_rights(hub: Hub, user: Client) -> None:
    """Hidden fields cannot be named, others see their own entities, and a store of the same name is another one."""
    fields = [{"id": "code", "type": "Text"}]
    store, other = await hub.define(fields=fields), await hub.as_user()
    for number in range(2):
        await user.make(store, code="7")
        assert len(await user.list(store, {"code": "7"})) == number + 1
        assert await other.list(store, {"code": "7"}) == []
    [definition] = await hub.admin.list("stores", {"name": store})
    path = f"/stores/{definition['_id']}"
    assert (await hub.admin.patch(path, {"fields": [{**fields[0], "hidden": True}]})).status_code == 200
    refused(await user.get(f"/{store}", {"code": "7"}), 400, "code")
    assert (await user.delete(f"/{store}", {"all": "true"})).status_code == 200
    assert (await hub.admin.delete(path)).status_code == 200
    assert (await user.get(f"/{store}", {"code": "7"})).status_code == 404
    await hub.admin.make("stores", {"name": store, "fields": [{"id": "size", "type": "Text"}]})
    refused(await user.get(f"/{store}", {"code": "7"}), 400, "code")
