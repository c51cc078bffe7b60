"""`hub import` with references by a unique field of their target, and with serial numbers that are kept."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs

import httpx
import orjson
import pytest

from hub.cli.client import Client
from hub.cli.definitions import Fields
from hub.cli.lookups import Lookups
from hub.cli.output import Failure
from hub.cli.rows import Row
from hub.cli.tables import Refusal
from hub.cli.targets import LONGEST_QUERY
from tests.cli.conftest import CommandLine, plain

CUSTOMERS = [
    {"id": "number", "type": "Number", "unique": True},
    {"id": "code", "type": "Text", "unique": True},
    {"id": "mail", "type": "Email", "unique": True},
    {"id": "name", "type": "Text"},
]
ORDERS = [
    {"id": "n", "type": "Number"},
    {"id": "customer", "type": "Reference", "store": "customers"},
    {"id": "seen", "type": "Reference", "store": "customers", "many": True},
    {"id": "payer", "type": "Reference", "store": "customers", "by": "code"},
    {"id": "ship", "type": "Object", "fields": [{"id": "to", "type": "Reference", "store": "customers"}]},
    {
        "id": "lines",
        "type": "Object",
        "many": True,
        "fields": [{"id": "of", "type": "Reference", "store": "customers"}, {"id": "n", "type": "Number"}],
    },
]
ROWS = [
    {"number": 7, "code": "007", "mail": "ann@example.com", "name": "Ann"},
    {"number": 8, "code": "1e3", "mail": "bob@example.com", "name": "Bob"},
]


@pytest.fixture
def shop(hub_of_each_engine: CommandLine) -> Iterator[tuple[CommandLine, dict[str, str]]]:
    """A running hub with two customers, and their ids by code."""
    hub = hub_of_each_engine
    with hub.serving():
        for store, fields in (("customers", CUSTOMERS), ("orders", ORDERS)):
            hub("store", "create", store, "--fields", hub.file(f"{store}.json", json.dumps(fields)))
        hub("import", "customers", "-", input="\n".join(map(json.dumps, ROWS)))
        yield hub, {row["code"]: row["_id"] for row in hub.rows("customers", "code")}


def test_columns_refer_by_a_unique_field(shop: tuple[CommandLine, dict[str, str]]) -> None:
    """Values are read by the type of that field, and compared in canonical form."""
    hub, ids = shop
    table = (
        "n,customer:number,seen:code,payer:mail,ship.to:code\n"
        '1,7,"[""007"", ""1e3""]",ANN@example.com,1e3\n'
        "2,8,007,,\n"
        "3,9,7,,\n"
        "4,,,bob@example.com,007\n"
    )
    done = hub("import", "orders", hub.file("t.csv", table), "--report", "bad.csv", code=1)
    assert done.last == "3 imported, 1 refused"
    assert "looked up: customer:number, seen:code, payer:mail, ship.to:code" in done.err
    ann, bob = ids["007"], ids["1e3"]
    assert plain(hub.rows("orders")) == [
        {"n": 1, "customer": ann, "seen": [ann, bob], "payer": "007", "ship": {"to": bob}},
        {"n": 2, "customer": bob, "seen": [ann]},
        {"n": 4, "payer": "1e3", "ship": {"to": ann}},
    ]
    with (hub.folder / "bad.csv").open(newline="") as report:
        assert [*csv.reader(report)][1:] == [
            ["4", "customer:number", "no entity of customers has the number 9"],
            ["4", "seen:code", 'no entity of customers has the code "7"'],
        ]


BAD_ROWS = """\
{"n": 1, "customer:number": 7, "seen:number": [8, 7], "lines": [{"of:code": "007"}, {"n": 2}], "payer:code": "1e3"}
{"n": 2, "customer:number": true}
{"n": 3, "customer:number": [7]}
{"n": 4, "customer:number": "7"}
{"n": 5, "customer:name": "Ann"}
{"n": 6, "customer:number": 7, "customer:code": "007"}
{"n": 7, "customer:number": null, "seen:code": null, "customers:code": 1}
{"n": 8, "lines": [{"n": 1}, {"of:code": "008"}]}
{"n": 9, "customer:number": 7.0, "seen:mail": "Bob@Example.com"}
"""
REFUSED = {
    "row 2: customer:number: not a single value",
    "row 3: customer:number: not a single value",
    'row 4: customer:number: no entity of customers has the number "7"',
    "row 5: customer:name: name is not a unique field of customers; there are: number, code, mail",
    "row 6: customer:code: customer has a value already",
    "row 7: customers:code: There is no such field.",
    'row 8: lines.1.of:code: no entity of customers has the code "008"',
}


def test_members_of_json_refer_by_a_unique_field(shop: tuple[CommandLine, dict[str, str]]) -> None:
    """Also in lists of objects. What refers to nothing is refused with the number of its row."""
    hub, ids = shop
    done = hub("import", "orders", "-", input=BAD_ROWS, code=1)
    assert done.last == "2 imported, 7 refused"
    assert {line for line in done.err.splitlines() if line.startswith("row ")} == REFUSED
    ann, bob = ids["007"], ids["1e3"]
    first, second = plain(hub.rows("orders"))
    assert first == {"n": 1, "customer": ann, "seen": [bob, ann], "payer": "1e3", "lines": [{"of": ann}, {"n": 2}]}
    assert second == {"n": 9, "customer": ann, "seen": [bob]}


def test_a_column_by_another_field_stops_the_import(served_hub: CommandLine) -> None:
    for store, fields in (("customers", CUSTOMERS), ("orders", ORDERS)):
        served_hub("store", "create", store, "--fields", served_hub.file(f"{store}.json", json.dumps(fields)))
    done = served_hub("import", "orders", served_hub.file("t.csv", "n,customer:name\n1,Ann\n"), code=1)
    assert "t.csv: customer:name: name is not a unique field of customers; there are: number, code, mail" in done.err
    assert served_hub.rows("orders") == []


def test_system_stores_and_fields_without_a_type_are_looked_up(served_hub: CommandLine) -> None:
    """The values of a unique path without a type are read as those that are stored."""
    hub = served_hub
    hub("store", "create", "things", "--unique", "place.code")
    hub("import", "things", "-", input='{"place": {"code": "010"}}\n{"place": {"code": "10"}}\n')
    fields = [
        {"id": "of", "type": "Reference", "store": "things"},
        {"id": "by", "type": "Reference", "store": "users", "by": "login"},
        {"id": "user", "type": "Reference", "store": "users"},
    ]
    hub("store", "create", "uses", "--fields", hub.file("uses.json", json.dumps(fields)))
    hub("import", "uses", hub.file("t.csv", "of:place.code,by,user:login\n010,admin,admin\n10,,\n"))
    ids = {row["place"]["code"]: row["_id"] for row in hub.rows("things")}
    [admin] = [user["_id"] for user in hub.json("user", "list", "--json") if user["login"] == "admin"]
    assert plain(hub.rows("uses")) == [{"of": ids["010"], "by": "admin", "user": admin}, {"of": ids["10"]}]


TREE = "\n".join(
    json.dumps(row)
    for row in [
        {"code": "root"},
        {"code": "a", "parent:code": "root", "above": "root"},
        {"code": "b", "parent:code": "a", "above": "a"},
        {"code": "c", "parent:code": "root"},
        {"code": "d", "parent:code": "e"},
        {"code": "e", "above": "c"},
    ]
)


def test_rows_refer_to_earlier_rows_of_the_same_file(hub_of_each_engine: CommandLine) -> None:
    hub = hub_of_each_engine
    with hub.serving():
        hub("store", "create", "tree", "--field", "code:Text:unique")
        hub("field", "add", "tree", "parent", "--json", '{"type": "Reference", "store": "tree"}')
        hub("field", "add", "tree", "above", "--json", '{"type": "Reference", "store": "tree", "by": "code"}')
        done = hub("import", "tree", "-", "--key", "code", input=TREE, code=1)
        assert done.last == "5 imported, 1 refused"
        assert 'row 5: parent:code: no entity of tree has the code "e"' in done.err
        rows = {row["code"]: row for row in hub.rows("tree")}
        parents = {code: row.get("parent") for code, row in rows.items()}
        assert parents == {
            "root": None,
            "a": rows["root"]["_id"],
            "b": rows["a"]["_id"],
            "c": rows["root"]["_id"],
            "e": None,
        }
        assert [rows[code].get("above") for code in "abe"] == ["root", "a", "c"]
        assert hub("import", "tree", "-", "--key", "code", input=TREE).last == "6 imported, 0 refused"


def test_serial_numbers_are_kept(hub_of_each_engine: CommandLine) -> None:
    """The store goes on counting above them. Without the option, they are the hub's."""
    hub = hub_of_each_engine
    with hub.serving() as url:
        hub("store", "create", "bills", "--field", "number:Serial", "--field", "n:Number")
        rows = '{"n": 1, "number": 70}\n{"n": 2}\n{"n": 3, "number": 9}\n'
        kept = hub("import", "bills", "-", "--keep", input=rows)
        assert (kept.last, "--keep" in kept.err) == ("3 imported, 0 refused", False)
        other = hub("import", "bills", "-", "--batch", "1", input='{"n": 4, "number": 500}\n{"n": 4, "number": 501}')
        assert other.err.count("the numbers of the file in number are not kept") == 1
        assert [row["number"] for row in hub.rows("bills", "number")] == [70, 71, 9, 72, 73]
        again = hub("import", "bills", "-", "--keep", input='{"n": 5, "number": 9}\n{"n": 6, "number": -1}', code=1)
        assert again.last == "0 imported, 2 refused"
        assert "row 1: number: Another entity has this value." in again.err
        assert "row 2: number: Must be at least 0." in again.err
        table = hub.file("t.csv", "number,n\n9,7\n100,8\n")
        assert hub("import", "bills", table, "--keep", "--key", "number").last == "2 imported, 0 refused"
        assert [(row["number"], row["n"]) for row in hub.rows("bills", "number", "n")][2:] == [
            (9, 7),
            (72, 4),
            (73, 4),
            (100, 8),
        ]
        hub("user", "add", "ann", "--generate")
        token = hub("token", "create", "t", "--user", "ann", "--quiet").out.strip()
        refused = hub("import", "bills", "-", "--keep", "--url", url, "--token", token, input='{"n": 9}', code=1)
        assert "keep: Only an administrator can keep serial numbers." in refused.err
        assert refused.last == "0 imported, 0 refused"


# Queries.


async def looked_up(rows: list[Any], most: int = 10_000) -> tuple[list[Any], list[Refusal], list[int]]:
    """Look up the customers of rows at a hub that takes so many values in a filter. Return the rows, the refusals, and
    the number of values in each query."""
    queries: list[int] = []

    def answer(request: httpx.Request) -> httpx.Response:
        values = json.loads(parse_qs(request.url.query.decode())["filter"][0])["number"]["$in"]
        queries.append(len(values))
        assert len(request.url.query) < 2 * LONGEST_QUERY
        if len(values) > most:
            return httpx.Response(400, json={"errors": {"filter": ["too many"]}})
        return httpx.Response(200, json=[{"_id": f"{n:024x}", "number": n} for n in values if n < 100_000])

    http = httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://hub")
    keys = {"customers": {"_id": {"type": "Reference"}, "number": {"type": "Number"}}}
    refusals: list[Refusal] = []
    fields = Fields("orders", ({"id": "customer", "type": "Reference", "store": "customers"},), keys)
    lookups = Lookups(Client(http), fields, refusals.extend)
    found: list[Any] = []
    for start in range(0, len(rows), 1_000):
        batch = [Row(start + place, orjson.dumps(row)) for place, row in enumerate(rows[start : start + 1_000])]
        found += [orjson.loads(row.body) async for part in lookups.parts(batch) for row in part]
    return found, refusals, queries


async def test_the_values_of_a_batch_are_looked_up_together() -> None:
    """And none twice, except those that refer to nothing."""
    rows = [{"customer:number": n % 200 or 100_000} for n in range(3_000)]
    found, refusals, queries = await looked_up(rows)
    assert found == [{"customer": f"{n % 200:024x}"} for n in range(3_000) if n % 200]
    assert len(refusals) == 15
    assert queries == [200, 1, 1]


async def test_long_lists_of_values_are_looked_up_in_pieces() -> None:
    found, _, queries = await looked_up([{"customer:number": 10_000 + n} for n in range(1_000)])
    assert len(found) == sum(queries) == 1_000
    assert 1 < len(queries) < 5


async def test_values_that_a_hub_does_not_take_together_are_looked_up_in_halves() -> None:
    found, refusals, queries = await looked_up([{"customer:number": n} for n in range(1, 101)], most=25)
    assert (len(found), refusals) == (100, [])
    assert queries == [100, 50, 25, 25, 50, 25, 25]


async def test_a_query_that_a_hub_does_not_take_at_all_stops_the_import() -> None:
    """Its reason is said, not that nothing has the value."""
    with pytest.raises(Failure, match=r"looking up customers by number: .*too many"):
        await looked_up([{"customer:number": n} for n in range(1, 5)], most=0)


async def test_rows_without_lookups_are_sent_as_they_are() -> None:
    rows = [{"n": 1}, {"customer": "x"}, {"text": '"customer:number":'}]
    assert await looked_up(rows) == (rows, [], [])
