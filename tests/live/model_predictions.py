"""Compares the answers to requests, and what they have changed, with the oracle's predictions (`model_data`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import httpx

from stores.records import Entity
from tests.live.model_data import Batch, Change, Refused, Request, Trial
from tests.live.model_definitions import DATA, Definitions
from tests.live.model_oracle import Holder, Moment, timeless

Entities = Mapping[str, Mapping[str, Entity]]


@dataclass(frozen=True)
class Asked:
    """A request, its sender and the answer to it."""

    request: Request | Batch
    holder: Holder
    answer: httpx.Response

    @property
    def made(self) -> list[Entity]:
        """The entities of the answer."""
        if self.answer.status_code != 200:
            return []
        body = self.answer.json()
        assert body.pop("success") is True
        if isinstance(self.request, Batch):
            assert all(each["status"] == 200 and each["body"].pop("success") is True for each in body["responses"])
            return [each["body"] for each in body["responses"]]
        made: list[Entity] = body.get("entities", [body])
        return made

    def __str__(self) -> str:
        return f"{self.request} of {self.holder}\nanswered {self.answer.status_code} {self.answer.text[:2_000]}"


@dataclass(frozen=True)
class Commit:
    """The changes that a request has made, all by one user."""

    by: str
    changes: Sequence[Change]


def explained(definitions: Definitions, before: Moment, asked: Sequence[Asked], after: Moment) -> list[Commit]:
    """Return the commits of requests that were sent at once, in an order in which they lead from `before` to `after`
    with these answers. Raises AssertionError if no order does."""
    reasons: list[str] = []
    for order in permutations(asked):
        entities: Entities = {store: before.entities[store] for store in DATA}
        commits: list[Commit] = []
        try:
            for each in order:
                entities, changes = _predicted(definitions, before, entities, each)
                commits.append(Commit(each.holder.id, changes))
            for store in DATA:
                _same(_by_id(entities[store]), _by_id(after.entities[store]), f"{store} after all")
        except AssertionError as wrong:
            reasons.append(str(wrong))
        else:
            return commits
    raise AssertionError("\n\n".join(["no order explains this:", *map(str, asked), *dict.fromkeys(reasons)]))


def _predicted(
    definitions: Definitions, moment: Moment, entities: Entities, asked: Asked
) -> tuple[Entities, Sequence[Change]]:
    """Return the entities after a request, and its changes. Raises AssertionError if it is answered in another way."""
    status = asked.answer.status_code
    trial = Trial(definitions, moment, entities, asked.holder, asked.made)
    try:
        expected = trial.carry_out(asked.request)
    except Refused as refusal:
        _check_refusal(refusal, asked)
        return entities, ()
    if status in trial.may_refuse:
        return entities, ()
    assert status == 200, f"refused without need: {asked}"
    if isinstance(expected, int):
        _same(expected, asked.made[0]["count"], str(asked))
    else:
        _same([timeless(each) for each in expected], [timeless(each) for each in asked.made], str(asked))
    return trial.entities, trial.changes


def _check_refusal(refusal: Refused, asked: Asked) -> None:
    status = asked.answer.status_code
    assert status in refusal.statuses, f"{status}, and not {refusal}: {asked}"
    if refusal.index is not None:
        errors = asked.answer.json()["errors"]
        place = f"requests.{refusal.index}"
        assert all(f"{name}.".startswith(f"{place}.") for name in errors), f"not {place}: {errors}"


def _by_id(entities: Mapping[str, Entity]) -> dict[str, Entity]:
    return {id: timeless(entity) for id, entity in entities.items()}


def _same(expected: Any, found: Any, what: str) -> None:
    assert expected == found, f"{what}\nexpected {expected}\nfound    {found}"
