"""Invalid requests of every kind: each is answered with its status and a reason, and nothing is written."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from stores.cursor import encode_cursor
from stores.parse import parse_sort
from stores.records import new_id
from tests.platform.answers import Scenario, good, play, refused
from tests.platform.raw import request, token_of, wire
from tests.support.hub import Client, Hub

SOME = "5f00000000000000000000a1"
MEBIBYTE = 1_048_576

NOT_JSON = [
    b"", b" ", b"{", b"}", b"{]", b"{'a':1}", b"{a:1}", b'{"a":1,}', b'{"a":}', b'{"a" 1}', b'{"a":1}{"b":2}',
    b'{"a":01}', b'{"a":.5}', b'{"a":+1}', b'{"a":tru}', b'{"a":"\n"}', b'{"a":"\\x"}', b"a=1&b=2", b"<a/>",
    b"\xff\xfe", b'{"a":"\xff"}', b'\xef\xbb\xbf', b'\xef\xbb\xbf\xef\xbb\xbf{"a":1}', b'{"a":NaN}',
    b'{"a":Infinity}', b'{"a":-Infinity}', b"NaN",
    b'{"a":nan}', b'{"a":1e999}', b'{"a":"\\ud800"}', b'{"a":"\\udc00\\ud800"}', b'{"\\ud83d":1}',
    b'{"a":"\xed\xa0\x80"}', b"[" * 2_000, b'{"a":' * 2_000, b"[" * 100_000 + b"]" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("body", NOT_JSON, ids=range(len(NOT_JSON)))
async def test_what_is_not_json_is_refused(user: Client, bare: str, body: bytes) -> None:
    """Bad syntax, NaN, infinity, lone surrogates and invalid UTF-8 are answered 400 on every call with a body. An empty
    body of a sign-in lacks the login."""
    refused(await user.send("POST", f"/{bare}", body), 400, "body")
    refused(await user.send("PATCH", f"/{bare}/{SOME}", body), 400, "body")
    refused(await user.send("PUT", f"/{bare}/{SOME}", body), 400, "body")
    refused(await user.send("PATCH", f"/{bare}?a=1", body), 400, "body")
    refused(await user.send("PUT", f"/{bare}/{SOME}/access", body), 400, "body")
    named = "body" if body.strip() else "login"
    refused(await user.send("POST", "/auth", body), 400 if len(body) <= 16_384 else 413, named)


@pytest.mark.parametrize("body", [b"null", b"5", b'"a"', b"true", b"1.5"])
async def test_json_that_is_no_object_is_refused(user: Client, bare: str, body: bytes) -> None:
    """An entity is an object; a change is never an array."""
    refused(await user.send("POST", f"/{bare}", body), 400, "body")
    for changing in (body, b"[]", b"[{}]"):
        refused(await user.send("PATCH", f"/{bare}/{SOME}", changing), 400, "body")
        refused(await user.send("PUT", f"/{bare}/{SOME}", changing), 400, "body")


def nested(levels: int, kind: str) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value} if kind == "object" else [value]
    return value


BAD_ENTITIES: list[tuple[str, bytes, str]] = [
    ("a dollar", b'{"$gt":{"n":1}}', "$gt"),
    ("a dollar inside", b'{"a":{"$gt":""}}', "a.$gt"),
    ("a dollar in an array", b'{"a":[{"$where":"1"}]}', "a.0.$where"),
    ("a dot", b'{"a.b":1}', "a.b"),
    ("a dot inside", b'{"a":{"b.c":1}}', "a.b.c"),
    ("an empty name", b'{"":1}', ""),
    ("an empty name inside", b'{"a":{"":1}}', "a."),
    ("NUL in a name", b'{"a\\u0000b":1}', "a\\u0000b"),
    ("NUL in text", b'{"a":"x\\u0000"}', "a"),
    ("NUL in text inside", b'{"a":[{"b":"\\u0000"}]}', "a.0.b"),
    ("an integer beyond 64 bits", b'{"a":9223372036854775808}', "a"),
    ("an integer far beyond", b'{"a":1' + b"0" * 400 + b"}", "body"),
    ("a negative one", b'{"a":-9223372036854775809}', "body"),
    ("one inside", b'{"a":[{"b":18446744073709551616}]}', "body"),
    ("a name of the hub's", b'{"_x":1}', "_x"),
    ("a long name", b'{"' + b"x" * 201 + b'":1}', "x" * 200),
    ("success", b'{"success":false}', "success"),
    ("an id", b'{"_id":"5f00000000000000000000a1"}', "_id"),
]


@pytest.mark.parametrize(("body", "name"), [e[1:] for e in BAD_ENTITIES], ids=[e[0] for e in BAD_ENTITIES])
async def test_a_bad_entity_is_refused_by_name(user: Client, bare: str, body: bytes, name: str) -> None:
    """Every kind of write is answered 400 with the field, and nothing is written."""
    for answer in (
        await user.send("POST", f"/{bare}", body),
        await user.send("POST", f"/{bare}?upsert=code", body),
        await user.send("PUT", f"/{bare}/{new_id()}", body),
        await user.send("PATCH", f"/{bare}/{new_id()}", body),
        await user.send("PATCH", f"/{bare}?a=1", body),
    ):
        errors = refused(answer, 400)
        assert name in errors or "body" in errors, errors
    errors = refused(await user.send("POST", f"/{bare}", b"[{}," + body + b"]"), 400)
    assert f"1.{name}" in errors or "body" in errors, errors
    assert await user.list(bare) == []


@pytest.mark.parametrize("kind", ["object", "array"])
async def test_an_entity_is_nested_so_deep_and_no_deeper(user: Client, store: str, kind: str) -> None:
    """The limit is 32 levels, counting the entity itself."""
    made = await user.make(store, a=nested(31, kind))
    assert made["a"] == nested(31, kind)
    for levels in (32, 33, 200):
        refused(await user.post(f"/{store}", {"a": nested(levels, kind)}), 400)
        refused(await user.patch(f"/{store}/{made['_id']}", {"a": nested(levels, kind)}), 400)
    assert await user.list(store) == [made]


async def test_integers_of_64_bits_are_exact(user: Client, store: str) -> None:
    """This includes the smallest and the largest one."""
    for value in (2**63 - 1, -(2**63), 2**53 + 1):
        made = await user.make(store, n=value)
        assert (await user.see(store, made["_id"]))["n"] == value
        assert len(await user.list(store, {"filter": json.dumps({"n": value})})) == 1
        assert await user.list(f"{store}?n={value}") == [made]


async def test_a_large_body_is_refused(user: Client, store: str) -> None:
    """A body of 1 MiB is accepted, one byte more is answered 413."""
    frame = len(b'{"a":""}')
    largest = b'{"a":"' + b"x" * (MEBIBYTE - frame) + b'"}'
    assert (await user.send("POST", f"/{store}", largest)).status_code == 200
    one = (await user.list(f"{store}?only=_rev"))[0]["_id"]
    for method, path in (("POST", f"/{store}"), ("PATCH", f"/{store}/{one}"), ("PUT", f"/{store}/{one}")):
        refused(await user.send(method, path, largest + b" "), 413, "body")

    refused(await user.send("POST", "/auth", b'{"login":"' + b"x" * MEBIBYTE + b'"}'), 413)
    assert len(await user.list(f"{store}?only=_rev")) == 1


async def test_an_array_may_be_larger_than_an_entity(user: Client, store: str) -> None:
    """Several entities of together more than 1 MiB are accepted."""
    made = await user.make_all(store, [{"text": "x" * 500_000} for _ in range(4)])
    assert len(made) == 4


async def test_a_declared_length_beyond_every_bound_is_refused_at_once(hub: Hub, user: Client, bare: str) -> None:
    """It is refused before any byte of the body arrives."""
    async with wire(hub.process.port) as connection:
        head = request("POST", f"/{bare}", token_of(user.http.headers), "Content-Length: 999999999999")
        await connection.send(head)
        answer = await connection.answer()
        assert answer.status == 413
        assert answer.json()["tags"] == ["error_payload_too_large"]
        await connection.closed()


async def test_a_body_without_a_declared_length_is_counted(hub: Hub, user: Client, bare: str) -> None:
    """The answer is 413 as soon as the body is too large, even before its end."""
    async with wire(hub.process.port) as connection:
        await connection.send(request("POST", f"/{bare}", token_of(user.http.headers), "Transfer-Encoding: chunked"))
        await connection.send(b'6\r\n{"a":"\r\n')
        for _ in range(16):
            await connection.send(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
        answer = await connection.answer()
        assert (answer.status, answer.json()["code"]) == (413, "413")
        await connection.closed()


NOWHERE = [
    ("/no-such-store", "GET"),
    ("/no-such-store", "POST"),
    ("/no-such-store?meta=true", "GET"),
    ("/no-such-store?a=1", "PATCH"),
    ("/no-such-store?a=1", "DELETE"),
    (f"/no-such-store/{SOME}", "GET"),
    (f"/no-such-store/{SOME}", "PATCH"),
    (f"/no-such-store/{SOME}", "PUT"),
    (f"/no-such-store/{SOME}", "DELETE"),
    (f"/no-such-store/{SOME}/history", "GET"),
    (f"/no-such-store/{SOME}/access", "PUT"),
    ("", "GET"),
    ("/", "GET"),
    ("//", "GET"),
    ("/$where", "GET"),
    ("/..%2f..%2fetc", "GET"),
    ("%2fauth", "GET"),
    ("/{store}%2f" + SOME, "DELETE"),
    ("/{store}%2F", "GET"),
    ("/auth%2ftoken", "POST"),
    ("/auth%2Fsessions", "DELETE"),
    ("/a b", "GET"),
    ("/%00", "GET"),
    ("/{store}/", "GET"),
    ("/{store}%0A", "GET"),
    ("/{store}%0Ax", "GET"),
    ("/{store}/" + SOME + "/history%0A/x", "GET"),
    ("/{store}/" + SOME + "/nothing", "GET"),
    ("/{store}/" + SOME + "/history/1", "GET"),
    ("/" + "x" * 5_000, "GET"),
]


@pytest.mark.parametrize(("path", "method"), NOWHERE)
async def test_an_unknown_path_or_store_is_404(user: Client, bare: str, path: str, method: str) -> None:
    """This holds for every method and every spelling of the path."""
    scenario = Scenario(path, method, path, 404, present=('"error_not_found"',), body={} if method[0] == "P" else None)
    await play(user, scenario, store=bare)


@pytest.mark.parametrize(
    "id",
    [SOME, "x", SOME[:-1], SOME + "0", SOME.upper(), "0" * 24, "g" * 24, "%00", "null", "-1", "1 OR 1=1", "a" * 3_000,
     "%24ne", "{}", SOME + "%0A", "５f00000000000000000000a1"],
)  # fmt: skip
async def test_an_unknown_or_malformed_id_is_404(user: Client, bare: str, id: str) -> None:
    """The answer is the same as for an invisible entity."""
    path = f"/{bare}/{id}"
    for answer in (
        await user.get(path),
        await user.patch(path, {"n": 1}),
        await user.put(path, {"n": 1}),
        await user.delete(path),
        await user.get(path + "/history"),
        await user.put(path + "/access", {"access": []}),
    ):
        refused(answer, 404)
        assert id not in answer.text


WRONG_METHODS = [
    ("PUT", "/{store}", {"GET", "HEAD", "POST", "PATCH", "DELETE"}),
    ("POST", "/{store}/" + SOME, {"GET", "HEAD", "PATCH", "PUT", "DELETE"}),
    ("OPTIONS", "/{store}/" + SOME, {"GET", "HEAD", "PATCH", "PUT", "DELETE"}),
    ("DELETE", "/{store}/" + SOME + "/history", {"GET", "HEAD"}),
    ("GET", "/{store}/" + SOME + "/access", {"PUT"}),
    ("PUT", "/auth", {"GET", "HEAD", "POST", "DELETE"}),
    ("GET", "/auth/token", {"POST"}),
    ("PROPFIND", "/{store}", {"GET", "HEAD", "POST", "PATCH", "DELETE"}),
    ("TRACE", "/{store}", {"GET", "HEAD", "POST", "PATCH", "DELETE"}),
    ("POST", "/openapi.json", {"GET", "HEAD"}),
]


@pytest.mark.parametrize(("method", "path", "allowed"), WRONG_METHODS)
async def test_a_wrong_method_is_told_the_right_ones(
    user: Client, bare: str, method: str, path: str, allowed: set[str]
) -> None:
    """The answer is 405 with `Allow`."""
    answer = await user.request(method, path.replace("{store}", bare))
    refused(answer, 405)
    assert set(answer.headers["allow"].split(", ")) == allowed


QUERIES = ["?a=%ff", "?%ff=1", "?a=%00", "?a[contains]=%00", "?%00=1", "?$where=1", "?a.$b=1", "?.a=1", "?a.=1", "?=1",
           "?a..b=1", "?sort=%ff", "?only=%00", "?filter=%ff", "?since=%ff&limit=x"]  # fmt: skip


@pytest.mark.parametrize("query", QUERIES)
async def test_a_bad_query_string_is_refused(user: Client, bare: str, query: str) -> None:
    """Invalid UTF-8, NUL and impossible field names are answered 400."""
    assert refused(await user.get(f"/{bare}{query}"), 400)


@pytest.mark.parametrize("digits", ["9223372036854775808", "9" * 20])
async def test_a_size_beyond_64_bits_is_refused(user: Client, bare: str, digits: str) -> None:
    """On both engines, within other operators, and in a bulk change, which would have to be tried again for ever."""
    for filter in ('{"a":{"$size":%s}}', '{"$nor":[{"a":{"$not":{"$size":%s}}}]}'):
        for method, body in (("GET", {}), ("PATCH", {"json": {"b": 1}}), ("DELETE", {})):
            answer = await user.request(method, f"/{bare}", params={"filter": filter % digits}, **body)
            assert "$size" in refused(answer, 400)


@pytest.mark.parametrize(("opening", "closing"), [('{"a":', "}"), ("[", "]")])
async def test_a_forged_cursor_of_many_levels_is_refused(user: Client, bare: str, opening: str, closing: str) -> None:
    order = parse_sort("a")
    for levels, statuses in ((200, (200, 400)), (201, (400,)), (490, (400,))):  # MongoDB compares 100 levels at most
        value = orjson.Fragment(opening * levels + "1" + closing * levels)
        cursor = encode_cursor((value, new_id()), order)  # type: ignore[arg-type]
        answer = await user.get(f"/{bare}", {"sort": "a", "after": cursor})
        assert answer.status_code in statuses, (levels, answer.text)


async def test_lists_in_parameters_are_refused_before_their_items_are_read(user: Client, bare: str) -> None:
    most = ",".join("-" * 10_000)
    for name, op in (("in", "$in"), ("nin", "$nin")):
        good(await user.get(f"/{bare}", {f"a[{name}]": most}))
        assert refused(await user.get(f"/{bare}", {f"a[{name}]": f"{most},-"}), 400).keys() == {op}
    assert refused(await user.get(f"/{bare}", {"only": ",".join("a" * 2_000)}), 400).keys() == {"only"}


@pytest.mark.parametrize("name", ["a[gt", "[gt]", "[]", "a]", "a[b]c", "a[gt]]", "a[[gt]", "a]gt["])
@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
async def test_brackets_that_hold_no_operator_of_a_field_are_named(
    user: Client, bare: str, name: str, method: str
) -> None:
    """In lists and bulk changes an unknown operator is refused, not taken as a part of the field's name."""
    body = {} if method == "DELETE" else {"json": {"b": 1}}
    answer = await user.request(method, f"/{bare}", params={name: "5"}, **body)
    assert list(refused(answer, 400)) == [name]


async def test_a_lone_surrogate_in_a_query_is_refused(hub: Hub, user: Client, bare: str) -> None:
    """It may be encoded as CESU-8 bytes or as a JSON escape in a filter."""
    for query in ("a=%ed%a0%80", "filter=%7B%22a%22%3A%22%5Cud800%22%7D"):
        async with wire(hub.process.port) as connection:
            await connection.send(request("GET", f"/{bare}?{query}", token_of(user.http.headers)))
            answer = await connection.answer()
            assert (answer.status, answer.json()["code"]) == (400, "400")


async def test_a_long_query_string_gets_an_answer(hub: Hub, user: Client, bare: str) -> None:
    """It is refused in the hub's own format, and the hub keeps working."""
    async with wire(hub.process.port) as connection:
        filter = json.dumps({"a": {"$in": ["x" * 1_000] * 200}}, separators=(",", ":")).replace('"', "%22")
        await connection.send(request("GET", f"/{bare}?filter={filter}", token_of(user.http.headers)))
        answer = await connection.answer()
        assert answer.status == 431
        assert answer.headers["content-type"] == "application/json"
    assert await user.list(bare) == []


async def test_what_is_not_http_harms_nobody(hub: Hub, user: Client, bare: str) -> None:
    """The connection is closed, and the hub keeps working."""
    for garbage in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20, b"GET\r\n\r\n", b"\0" * 5_000 + b"\r\n\r\n"):
        async with wire(hub.process.port) as connection:
            await connection.send(garbage)
            assert await connection.closed()
    assert await user.list(bare) == []


async def test_an_error_quotes_no_more_than_it_must(user: Client, bare: str) -> None:
    """A huge name is shortened, so that the answer stays small."""
    long = "$" + "x" * 100_000
    for method, path, body in (
        ("POST", "", {long: 1}),
        ("PATCH", f"/{SOME}", {long: 1}),
        ("PATCH", f"/{SOME}", {"$inc": {long[1:]: 1}}),
        ("PATCH", f"/{SOME}", {"$set": {f"{'y' * 1_000}.a": 1}}),
    ):
        answer = await user.request(method, f"/{bare}{path}", json=body)
        refused(answer, 400)
        assert len(answer.content) < 10_000
    answer = await user.post(f"/{bare}", [{"$a": 1}] * 10_000)
    refused(answer, 400)
    assert len(answer.content) < 200_000


async def test_an_unknown_parameter_of_a_write_is_named(user: Client, bare: str) -> None:
    """This holds for creation, change, replacement, deletion and sharing."""
    one = f"/{bare}/{SOME}"
    for method, path in (("POST", f"/{bare}"), ("PATCH", one), ("PUT", one), ("DELETE", one), ("PUT", one + "/access")):
        refused(await user.request(method, path + "?colour=1", json={}), 400, "colour")


@pytest.mark.parametrize("name", ["sort", "only"])
async def test_a_list_parameter_without_a_field_is_named(user: Client, bare: str, bare_typed: str, name: str) -> None:
    for store in (bare, bare_typed):
        for value in ("", ",", "name,", "-" if name == "sort" else " "):
            assert list(refused(await user.get(f"/{store}", {name: value}), 400)) == [name]
    assert "" not in refused(await user.get(f"/{bare}?=1"), 400)
    assert "" not in refused(await user.get(f"/{bare}", {"filter": '{"":1}'}), 400)


async def test_a_form_is_told_that_json_is_wanted(user: Client, bare: str) -> None:
    """This holds for signing in too. The Content-Type alone does not matter, because curl sends a form's for any
    body."""
    form = "application/x-www-form-urlencoded"
    multipart = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x--\r\n'
    for body, kind in ((b"a=1&b=2", form), (b"-5=6", form), (multipart, "multipart/form-data; boundary=x")):
        for path in (f"/{bare}", "/auth", "/auth/token"):
            [text] = refused(await user.send("POST", path, body, content_type=kind), 400, "body")["body"]
            assert "application/json" in text
            assert kind.partition(";")[0] in text
    for body in (b'{"a":1,}', b' [{"a": 1e400}]'):
        [text] = refused(await user.send("POST", f"/{bare}", body, content_type=form), 400, "body")["body"]
        assert text.startswith("The body is not JSON: ")
    taken = await user.send("PATCH", f"/{bare}?a=1", b'{"b":2}', content_type=form)
    assert taken.json() == {"success": True, "count": 0}


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "application/json"])
async def test_a_byte_order_mark_before_json_is_ignored(hub: Hub, user: Client, kind: str) -> None:
    """RFC 8259 lets a parser ignore it. In another encoding the error blames the encoding, not the Content-Type."""
    store = await hub.define()
    many = json.dumps([{"text": "x" * 1_000}] * 200)  # is parsed in a thread
    for text in ('{"n":1}', many):
        made = await user.send("POST", f"/{store}", text.encode("utf-8-sig"), content_type=kind)
        assert made.status_code == 200, made.text
    assert good(await user.get(f"/{store}?meta=true"))["count"] == 201
    login = await user.send("POST", "/auth", '{"login":1}'.encode("utf-8-sig"), content_type=kind)
    assert "login" in refused(login, 400)
    for encoding in ("utf-16", "utf-16-le", "utf-16-be"):
        answer = await user.send("POST", f"/{store}", '{"n":1}'.encode(encoding), content_type=kind)
        [error] = refused(answer, 400, "body")["body"]
        assert error.startswith("The body is not JSON: ")
