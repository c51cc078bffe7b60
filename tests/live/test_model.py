"""The model test: after any operations in any order, each client's live view equals its REST list, and each event
arrived once, in order, and only if its reader could see it.

Each run has its own users on a hub that all runs share. After each step every connection has received all events of the
step. Then three views are compared: the client's view, made of a snapshot and events; the REST list with the same
token; and the result of the visibility rules (`model_oracle`). Each event is compared with the reader's visibility at
the time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.internal.conjecture.providers import AVAILABLE_PROVIDERS
from hypothesis.stateful import RuleBasedStateMachine, get_state_machine_test, initialize, precondition, rule

from tests.conftest import extent_of
from tests.live import model_draws as draws
from tests.live import model_request_draws as requests
from tests.live.model_definitions import LINES
from tests.live.model_run import Run
from tests.live.model_stage import ENOUGH, PLAIN, TYPED, Stage
from tests.live.model_steps import ChangeRole, GiveRoles, Leave, MoveUser, Redefine, Return, Subscribe
from tests.live.model_writes import ChangeAll, Make
from tests.support.engines import Database

STEPS = 10
RUNS_OF_A_PART = 500
"""Parts have hubs of their own, and run in parallel with `-n 2`."""

AVAILABLE_PROVIDERS["fresh"] = AVAILABLE_PROVIDERS["hypothesis"]
"""Hypothesis's own generator under another name. With its own name, four of five runs are mutations of the run before
them, with most of the steps in common."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "part" in metafunc.fixturenames:
        extent = extent_of(metafunc.config)
        parts = -(-max(extent.model_runs, extent.model_runs_on_mongodb) // RUNS_OF_A_PART)
        metafunc.parametrize("part", [Part(number, parts) for number in range(parts)], ids=str)


@dataclass(frozen=True)
class Part:
    """One of the tests among which all runs are divided."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"part{self.number + 1}of{self.of}"

    def share(self, runs: int) -> int:
        """Return how many of the runs belong to this part."""
        return runs * (self.number + 1) // self.of - runs * self.number // self.of


@pytest.fixture
async def stage(database: Database, tmp_path: Path) -> AsyncIterator[tuple[Stage, asyncio.AbstractEventLoop]]:
    made = Stage(database, tmp_path / "hub")
    await made.open()
    yield made, asyncio.get_running_loop()
    await made.close()


class Model(RuleBasedStateMachine):
    """The state machine. `stage` and `loop` are set by the test."""

    stage: Stage
    loop: asyncio.AbstractEventLoop

    def __init__(self) -> None:
        super().__init__()
        self.run = Run(self.stage)
        self.restarts = 0
        self.steps: list[str] = []
        self.do(self.run.open())

    def do(self, work: Coroutine[Any, Any, None]) -> None:
        self.loop.run_until_complete(work)

    def step(self, *operations: Any, together: bool = False) -> None:
        """Perform a step and note it, because Hypothesis cannot show the steps of a failure that does not recur."""
        self.steps.append(f"{'together: ' * together}{', '.join(map(str, operations))}")
        try:
            self.do(self.run.step(*operations, together=together))
        except Exception as error:
            error.add_note("\n".join(["The steps of this run:", *self.steps]))
            raise

    def teardown(self) -> None:
        self.do(self.run.close())

    @initialize(
        restarts=st.sampled_from([0] * 11 + [1]),
        made=st.lists(draws.makes, min_size=2, max_size=4),
        seeds=st.lists(requests.seeds, min_size=2, max_size=3),
        subscribed=st.lists(draws.subscriptions, min_size=1, max_size=2),
        others=st.lists(requests.subscriptions, min_size=2, max_size=4),
        asked=st.lists(st.one_of(requests.linkings, requests.asks()), min_size=3, max_size=5),
    )
    def begin(
        self,
        restarts: int,
        made: list[Any],
        seeds: list[Any],
        subscribed: list[Any],
        others: list[Any],
        asked: list[Any],
    ) -> None:
        self.restarts = restarts
        everybody = [Return(seat, False) for seat in range(len(self.run.seats))]
        self.step(*made, *everybody, together=True)
        self.step(*seeds, *subscribed, *others)
        self.step(*asked)

    @rule(operation=draws.makes)
    def make(self, operation: Any) -> None:
        self.step(operation)

    @rule(operation=draws.changes)
    def change(self, operation: Any) -> None:
        self.step(operation)

    @rule(operation=draws.bulk_changes)
    def change_all(self, operation: Any) -> None:
        self.step(operation)

    @rule(operations=st.lists(requests.asks(), min_size=2, max_size=5))
    def ask(self, operations: list[Any]) -> None:
        """Send requests whose outcome is predicted, to the stores that refer to each other."""
        self.step(*operations)

    @rule(operations=st.lists(requests.asks(), min_size=2, max_size=3))
    def ask_at_once(self, operations: list[Any]) -> None:
        """Send requests at the same time: some order must explain their answers and effects."""
        self.step(*operations, together=True)

    @rule(operations=requests.races)
    def race(self, operations: list[Any]) -> None:
        self.step(*operations, together=True)

    @rule(deletion=requests.deletions, more=requests.asks())
    def delete_with_consequences(self, deletion: Any, more: Any) -> None:
        self.step(more, deletion)

    @rule(seat=draws.seats, changes=st.integers(1, 2), operation=st.one_of(requests.batches, requests.bulk))
    def be_cut_within_a_commit(self, seat: int, changes: int, operation: Any) -> None:
        """Lose the connection after some events of a commit, and return."""
        self.step(Return(seat, True), Subscribe(seat, LINES, None, None, "snapshot"))
        self.step(Leave(seat, changes), operation)
        self.step(Return(seat, False))

    @rule(operation=draws.shares)
    def share(self, operation: Any) -> None:
        self.step(operation)

    @rule(operation=draws.user_changes)
    def change_user(self, operation: Any) -> None:
        self.step(operation)

    @rule(operation=st.one_of(draws.role_changes, draws.narrowings))
    def change_scopes(self, operation: Any) -> None:
        self.step(operation)

    @rule(operation=draws.group_moves)
    def move_group(self, operation: Any) -> None:
        self.step(operation)

    @rule(operation=draws.redefinitions)
    def redefine(self, operation: Any) -> None:
        self.step(operation)

    @rule(operation=draws.revocations)
    def revoke(self, operation: Any) -> None:
        self.step(operation)

    @rule(operation=st.one_of(draws.subscriptions, requests.subscriptions))
    def subscribe(self, operation: Any) -> None:
        self.step(operation)

    @rule(operation=draws.becomings)
    def become(self, operation: Any) -> None:
        self.step(operation)

    @rule(operation=draws.leavings)
    def leave(self, operation: Any) -> None:
        self.step(operation)

    @rule(operation=draws.returns)
    def come_back(self, operation: Any) -> None:
        self.step(operation)

    @rule(seat=draws.seats, changes=st.integers(1, 3), group=draws.groups, auto=st.booleans())
    def leave_while_it_moves(self, seat: int, changes: int, group: int, auto: bool) -> None:
        """Cut the connection in the middle of a change of visibility, undo the change, and return."""
        user, home = self.run.place_of(self.run.seats[seat])
        self.step(Leave(seat, changes), MoveUser(user, group))
        self.step(Leave(seat, 0), MoveUser(user, home))
        self.step(Return(seat, auto))

    @rule(subscription=draws.subscriptions, scopes=draws.scopes)
    def watch_by_a_role(self, subscription: Any, scopes: int) -> None:
        """Give a role to the user, subscribe, and change the role's scopes."""
        user, _ = self.run.place_of(self.run.seats[subscription.seat])
        self.step(GiveRoles(user, "r"))
        self.step(Return(subscription.seat, True), subscription)
        self.step(ChangeRole(scopes))

    @rule(seat=draws.seats, filter=draws.filters, auto=st.booleans())
    def be_away_while_a_store_is_redefined(self, seat: int, filter: Any, auto: bool) -> None:
        self.step(Return(seat, auto), Subscribe(seat, TYPED, filter, None, "snapshot"))
        self.step(Leave(seat, 0), Redefine(not self.run.hidden))
        self.step(Return(seat, auto))

    @rule(seat=draws.seats, fields=draws.fields, filter=draws.filters)
    def be_away_for_long(self, seat: int, fields: Any, filter: Any) -> None:
        """Miss more changes than the hub has in memory, which is up to twice the number in its setting."""
        user, _ = self.run.place_of(self.run.seats[seat])
        self.step(Return(seat, True), Subscribe(seat, PLAIN, None, None, "snapshot"))
        self.step(
            Leave(seat, 0),
            Make(user + 1, PLAIN, [fields] * (2 * ENOUGH + 1)),
            ChangeAll(user + 1, PLAIN, filter, "DELETE", {}),
        )
        self.step(Return(seat, True))

    @rule(
        operations=st.lists(
            st.one_of(draws.writes, requests.asks(), requests.asks(), draws.visibilities), min_size=2, max_size=5
        )
    )
    def one_after_the_other(self, operations: list[Any]) -> None:
        """Perform several operations without waiting for clients in between."""
        self.step(*operations)

    @rule(
        writes=st.lists(draws.single_writes, max_size=4),
        visibility=draws.visibilities,
        another=st.one_of(draws.single_writes, draws.user_changes, draws.returns, draws.subscriptions),
    )
    def together(self, writes: list[Any], visibility: Any, another: Any) -> None:
        self.step(*writes, visibility, another, together=True)

    @precondition(lambda self: self.restarts)
    @rule(operation=draws.restarts)
    def restart(self, operation: Any) -> None:
        self.restarts -= 1
        self.step(operation)


@pytest.mark.gate("sqlite", "mongodb")
@pytest.mark.generated(2.0)
def test_views_are_what_rest_shows(
    stage: tuple[Stage, asyncio.AbstractEventLoop], pytestconfig: pytest.Config, database: Database, part: Part
) -> None:
    """Several principals, random writes, permissions, filters, projections, disconnects, resumes and restarts."""
    extent = extent_of(pytestconfig)
    runs = extent.model_runs if database.kind == "sqlite" else extent.model_runs_on_mongodb
    machine = type("Model", (Model,), {"stage": stage[0], "loop": stage[1]})
    # Failures are not shrunk: that takes minutes against a real hub, and a run has few steps.
    phases = (Phase.explicit, Phase.generate)
    length = settings(max_examples=part.share(runs), stateful_step_count=STEPS)
    test = get_state_machine_test(machine, settings=settings(length, phases=phases, backend="fresh"))
    seed(part.number)(test)()
