"""The hub is killed while the definition of a store changes, with the data of its entities."""

from __future__ import annotations

import asyncio
import random
from typing import Final

import pytest

from tests.faults.conftest import Report
from tests.faults.hub import MortalHub
from tests.faults.redefined import redefined

pytestmark = pytest.mark.faults

ENOUGH: Final = 100_000
FEW: Final = 60
"""Entities that one commit may change, as many as there are or so few that most changes are made in steps."""


async def test_killed_while_a_definition_changes(mortal: MortalHub, times: int, report: Report) -> None:
    """The hub is killed (SIGKILL) at any moment of changes that rename, convert, fill and drop fields, or right behind
    a commit of them. They are made alternately in one commit and in steps. Sometimes it is killed again while it
    starts."""
    async with redefined(mortal) as load:
        for number in range(times):
            in_steps = number % 2 == 1 and random.random() < 0.8
            seconds = 1.5 * await load.redefiner.has_sent(random.randint(1, 8 if in_steps else 2), in_steps)
            if number % 4 < 2:
                await asyncio.sleep(random.uniform(0, seconds))
            else:
                await load.hear_of_change(in_steps, seconds)
            await mortal.end()
            mortal.settings["max_matches"] = ENOUGH if number % 2 else FEW
            if number % 4 == 3:
                await mortal.die_at_start(random.uniform(0.1, 1))
            await mortal.start()
    assert load.redefiner.made, load.redefiner.found
    report(await load.verdict("hub killed while a definition changes", times), anew=True)
