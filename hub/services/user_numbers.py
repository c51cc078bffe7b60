"""The numbers of users that lack one: those from before users had numbers, and those of other programs."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Final

from auth.system_stores import USERS
from hub.services.stamping import serials_of, stamp_change
from stores.data_changes import DataChange, DataOperations
from stores.errors import DuplicateValue
from stores.presence import has_none
from stores.protocol import Engine, Procedure, Steps, UpdateMany, do, find, take
from stores.query import Compare, In, Query, Sort

AT_ONCE: Final = 500
"""Users that get their numbers in one commit."""

RETRIES: Final = 20

_FILLING: Final = DataOperations({}, fill=("number", "subscription_tier"))
_UNNUMBERED: Final = has_none(("number",))
_LARGEST: Final = Query(Compare(("number",), "gt", 0), (Sort(("number",), descending=True),), limit=1)


async def number_users(engine: Engine) -> None:
    """Give numbers to the users that have none, in the order of their creation, and the tier of new users to those
    without one.

    Several hubs may do this at once: each takes the numbers in the commit in which it finds the users.
    """
    refusals = 0
    while await engine.entities(USERS.name, Query(_UNNUMBERED, limit=1)):
        above = [int(user["number"]) for user in await engine.entities(USERS.name, _LARGEST)]
        numbering = Procedure(USERS.name, partial(_numbering, max([0, *above])), bulk=True)
        try:
            await engine.commit([numbering], None)
        except DuplicateValue:
            # On MongoDB, of two commits that create the counter one is refused. It finds the numbered users then.
            refusals += 1
            if refusals > RETRIES:
                raise


def _numbering(largest: int) -> Steps:
    """Number the next users above `largest`, which is below the counter unless the counter was lost with a part of the
    database."""
    [serial] = serials_of(USERS)
    users = yield from find(USERS.name, _UNNUMBERED, AT_ONCE, (), in_order=True)
    first = yield from take(replace(serial, start=max(serial.start, largest + 1)), len(users))
    ids = tuple(user["_id"] for user in users)
    numbers = {id: first + index for index, id in enumerate(ids)}
    change = DataChange(_FILLING, USERS, {serial.field: numbers})
    return (yield from do(UpdateMany(USERS.name, In(("_id",), ids), stamp_change({}), len(ids), compute=change)))
