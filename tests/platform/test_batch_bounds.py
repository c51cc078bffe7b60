"""What batches may do on the event loop, and what small ones may make: in a hub of this process."""

from __future__ import annotations

import threading
from typing import Any

import orjson
import pytest

from hub.dialects.platform.batch import _requests
from hub.http.errors import BadRequest, RequestFailed, describe
from hub.services import batch, batch_answers, operators
from hub.services.batch_answers import Answers, Reference
from hub.services.preparing import LoopShare
from stores.computing import OperatorChange
from stores.errors import ComputedTooLong
from stores.parse_operators import parse_change
from stores.records import Entity
from tests.support.racing import Racing

ADDRESSES: list[Entity] = [{"id": "name", "type": "Text"}, {"id": "mails", "type": "Email", "many": True}]


@pytest.fixture
def on_loop(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Return a list that gets, for each request that a batch has carried out, whether that was on the event loop."""
    noted: list[bool] = []
    loop = threading.get_ident()

    class Noted(Answers):
        def add(self, text: bytes, rev: int) -> None:
            noted.append(threading.get_ident() == loop)
            super().add(text, rev)

    monkeypatch.setattr(batch, "Answers", Noted)
    return noted


async def define(racing: Racing, name: str, **definition: Any) -> None:
    await racing.make("stores", {"name": name, **definition})


async def carried_out(racing: Racing, *items: Entity) -> list[Entity]:
    size = len(orjson.dumps(items))
    done = await racing.hub.batch.run(racing.principal, _requests(items), size, None)
    return [orjson.loads(text) for text, _ in done]


def post(store: str, **body: Any) -> Entity:
    return {"method": "POST", "path": f"/{store}", "body": body}


def addresses(count: int) -> list[str]:
    """Return mail addresses whose check takes long."""
    return [f"{number}@bücher.example.org" for number in range(count)]


async def test_a_light_batch_is_done_on_the_loop(racing: Racing, on_loop: list[bool]) -> None:
    """References to ids and small fields do not make it a long one."""
    await define(racing, "people", fields=ADDRESSES)
    await define(racing, "orders")
    [person, order] = await carried_out(
        racing,
        post("people", name="Ann", mails=addresses(5)),
        post("orders", of={"$ref": "0._id"}, rev={"$ref": "0._rev"}, name={"$ref": "0.name"}),
    )
    assert (order["of"], order["rev"], order["name"]) == (person["_id"], 1, "Ann")
    assert on_loop == [True, True]


@pytest.mark.parametrize("kind", ["addresses", "references", "answers", "operators"])
async def test_a_small_batch_that_takes_long_leaves_the_loop(racing: Racing, on_loop: list[bool], kind: str) -> None:
    """Checks, copies and large answers are counted for all requests together."""
    await define(racing, "people", fields=ADDRESSES, open=True)
    person = await racing.make("people", {"name": "Ann", "mails": addresses(60)})
    large = await racing.make("people", {"name": "Eve", "list": [*range(60_000)]})
    items: dict[str, list[Entity]] = {
        "addresses": [post("people", name="Ben", mails=addresses(60))] * 2,
        "references": [
            post("people", list=[*range(5_000)]),
            *(post("people", list={"$ref": "0.list"}) for _ in range(4)),
        ],
        "answers": [
            {"method": "PATCH", "path": f"/people/{large}", "body": {"n": 1}},
            post("people", name={"$ref": "0.name"}),
        ],
        "operators": [{"method": "PATCH", "path": f"/people/{person}", "body": {"$push": {"mails": "a@example.org"}}}],
    }
    done = await carried_out(racing, *items[kind])
    count = len(items[kind])
    assert len(done) == count
    assert on_loop[-count:] == [False] * count
    assert len(on_loop) < 2 * count, "what is too much is not done on the loop first"


@pytest.mark.parametrize(("count", "in_thread"), [(10, False), (200, True)])
async def test_operators_with_costly_values_are_checked_in_a_thread(
    racing: Racing, monkeypatch: pytest.MonkeyPatch, count: int, in_thread: bool
) -> None:
    """In a request of its own."""
    await define(racing, "people", fields=ADDRESSES)
    person = await racing.make("people", {"name": "Ann"})
    noted: list[bool] = []
    check, loop = operators.change_of, threading.get_ident()

    def change_of(*arguments: Any) -> OperatorChange:
        noted.append(threading.get_ident() != loop)
        return check(*arguments)

    monkeypatch.setattr(operators, "change_of", change_of)
    _, given = parse_change({"$push": {"mails": {"$each": addresses(count)}}})
    await racing.hub.entities.change(racing.principal, "people", person, {}, None, given)
    assert noted == [in_thread]
    assert len((await racing.see("people", person))["mails"]) == count


async def test_references_and_defaults_do_not_multiply_what_is_sent(
    racing: Racing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entities of a batch are bounded, whatever makes them larger than its body; what is sent is not counted."""
    monkeypatch.setattr(batch, "MOST_BATCH_BYTES", 100_000)
    await define(racing, "people", fields=[{"id": "name", "type": "Textarea", "default": "x" * 9_000}], open=True)
    copies = [post("people", name="", text={"$ref": "0.text"}) for _ in range(15)]
    for items in ([post("people", text="x" * 9_000), *copies], [post("people")] * 15):
        with pytest.raises(RequestFailed) as refusal:
            await carried_out(racing, *items)
        assert refusal.value.limit_name == "MOST_BATCH_BYTES"
        assert 9 < refusal.value.index < 13
    assert len(await carried_out(racing, *[post("people", name="x" * 9_000)] * 15)) == 15


async def test_references_make_no_entity_of_too_many_values(racing: Racing) -> None:
    await define(racing, "things")
    first = post("things", list=[0] * 30_000)
    fitting = [{"$ref": "0.list"}] * 3
    [_, made] = await carried_out(racing, first, post("things", lists=fitting))
    assert made["lists"] == [[0] * 30_000] * 3
    with pytest.raises(RequestFailed) as refusal:
        await carried_out(racing, first, post("things", lists=[*fitting, {"$ref": "0.list"}]))
    assert (refusal.value.index, refusal.value.limit_name) == (1, "max_entity_nodes")


def looked_up(answers: Answers, request: int, path: str) -> Any:
    return answers.value_of(Reference("place", request, path))


def test_answers_are_looked_into_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of them is parsed at a time. Ids and revisions are found without parsing."""
    monkeypatch.setattr(batch_answers, "MOST_ANSWER_BYTES", 2_000)
    answers = Answers(LoopShare(bounded=False))
    for number in range(2):
        entity = {"_id": f"{number:024x}", "_rev": 7, "name": f"n{number}", "text": "x" * 500}
        answers.add(orjson.dumps(entity), 7)
    for _ in range(10):
        assert looked_up(answers, 0, "name") == "n0"
        assert [looked_up(answers, number, "_id") for number in (0, 1)] == ["0" * 24, "0" * 23 + "1"]
        assert looked_up(answers, 1, "_rev") == 7
    for number in (1, 0):
        assert looked_up(answers, number, "name") == f"n{number}"
    with pytest.raises(BadRequest) as refusal:
        looked_up(answers, 1, "name")
    assert (refusal.value.limit_name, [*refusal.value.errors]) == ("MOST_ANSWER_BYTES", ["place"])


@pytest.mark.parametrize(
    ("text", "id", "rev"),
    [(b'{"_id":"a\\"b","_rev":2}', 'a"b', 2), (b'{"_rev":2,"_id":"ab"}', "ab", 2), (b'{"_id":5,"_rev":2}', 5, 2)],
)
def test_unusual_answers_are_parsed(text: bytes, id: Any, rev: int) -> None:
    answers = Answers(LoopShare(bounded=True))
    answers.add(text, 0)
    assert (looked_up(answers, 0, "_id"), looked_up(answers, 0, "_rev")) == (id, rev)


@pytest.mark.engine("sqlite")
async def test_a_batch_that_takes_too_long_changes_nothing(racing: Racing, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer names the limit and is no fault of one request. A deletion that clears references is bounded too."""
    await define(racing, "things")
    await define(
        racing, "owners", fields=[{"id": "thing", "type": "Reference", "store": "things", "on_delete": "clear"}]
    )
    thing = await racing.make("things", {"n": 0})
    await racing.make("owners", {"thing": thing})
    allowances = ("SECONDS_PER_CHANGE", "SECONDS_PER_ENTITY_BYTE", "SECONDS_PER_FOUND", "SECONDS_PER_BYTE")
    for name in ("LONGEST_COMPUTING", *allowances):
        monkeypatch.setattr(f"stores.sqlite.computing_time.{name}", 0)
    for request in (
        carried_out(racing, *[{"method": "PATCH", "path": f"/things/{thing}", "body": {"n": 1}}] * 30),
        racing.hub.entities.delete(racing.principal, "things", thing, None),
    ):
        with pytest.raises(ComputedTooLong) as refusal:
            await request
        failure = describe(refusal.value)
        assert (failure.status, refusal.value.limit_name) == (503, "LONGEST_COMPUTING")
        assert "0 seconds (LONGEST_COMPUTING)" in failure.errors["body"][0]
    assert (await racing.see("things", thing))["n"] == 0
