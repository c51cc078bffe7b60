"""Hypothesis strategies of the model: few names and values, so that filters match and steps affect each other."""

from __future__ import annotations

import signal

from hypothesis import strategies as st

from tests.live.model_definitions import DATA
from tests.live.model_stage import ENOUGH, FEW, PLAIN, SCOPES, TYPED, USERS
from tests.live.model_steps import (
    Become,
    ChangeRole,
    GiveRoles,
    Leave,
    MoveGroup,
    MoveUser,
    NarrowToken,
    Redefine,
    Restart,
    Return,
    Revoke,
    Subscribe,
)
from tests.live.model_writes import Change, ChangeAll, Make, Share

numbers = st.integers(0, 4)
names = st.sampled_from(["", "a", "ab", "b"])
fields = st.fixed_dictionaries(
    {},
    optional={
        "n": st.none() | numbers,
        "name": names,
        "tags": st.lists(st.sampled_from("xy"), max_size=2),
        "place": st.fixed_dictionaries({"city": st.sampled_from("cd"), "street": st.sampled_from("st")}),
        "pin": st.sampled_from(["pin-1", "pin-2"]),
    },
)
conditions = st.one_of(
    st.builds(lambda op, n: {"n": {op: n}}, st.sampled_from(["$lt", "$gte", "$ne", "$eq"]), numbers),
    st.builds(lambda n: {"n": n}, st.none() | numbers),
    st.builds(lambda n: {"n": {"$in": n}}, st.lists(numbers, max_size=3)),
    st.builds(lambda tag: {"tags": tag}, st.sampled_from("xy")),
    st.builds(lambda name: {"name": {"$startswith": name}}, names),
    st.builds(lambda city: {"place.city": city}, st.sampled_from("cd")),
    st.builds(lambda name, there: {name: {"$exists": there}}, st.sampled_from(["n", "name"]), st.booleans()),
    st.builds(lambda name, user: {name: f"@user{user}"}, st.sampled_from(["owner", "access"]), st.integers(0, 2)),
    st.builds(lambda name, group: {name: f"@group{group}"}, st.sampled_from(["group", "branch"]), st.integers(0, 3)),
)
filters = st.one_of(
    conditions,
    st.builds(
        lambda op, parts: {op: parts},
        st.sampled_from(["$and", "$or", "$nor"]),
        st.lists(conditions, min_size=2, max_size=2),
    ),
)
projections = st.none() | st.sampled_from(["n", "name,place.city", "tags,n", "_rev,owner", "place", "access,branch"])

by, users, groups, seats, picks = (
    st.integers(0, 3),
    st.integers(0, 2),
    st.integers(0, 3),
    st.integers(0, 2),
    st.integers(0, 11),
)
stores = st.sampled_from([PLAIN, TYPED])
makes = st.builds(Make, by, stores, st.lists(fields, min_size=1, max_size=3))
changes = st.builds(Change, by, stores, picks, st.sampled_from(["PATCH", "PATCH", "PATCH", "PUT", "DELETE"]), fields)
bulk_changes = st.builds(ChangeAll, by, stores, filters, st.sampled_from(["PATCH", "PATCH", "DELETE"]), fields)
shares = st.builds(Share, by, st.sampled_from([PLAIN, TYPED, *DATA]), picks, st.lists(users, unique=True, max_size=3))
user_moves = st.builds(MoveUser, users, st.none() | groups)
roles = st.builds(GiveRoles, users, st.sampled_from(["", "r", "a", "ra"]))
scopes = st.integers(0, len(SCOPES) - 1)
role_changes = st.builds(ChangeRole, scopes)
narrowings = st.builds(NarrowToken, seats, st.none() | scopes)
group_moves = st.builds(MoveGroup, groups, st.none() | groups)
revocations = st.builds(Revoke, seats, st.booleans())
subscriptions = st.builds(
    Subscribe,
    seats,
    st.sampled_from([PLAIN, TYPED, PLAIN, TYPED, USERS]),
    st.none() | filters.map(lambda drawn: drawn),  # mapped, so that it is as likely as None
    projections,
    st.sampled_from(["snapshot", "auto", "list"]),
)
leavings = st.builds(Leave, seats, st.integers(0, 4))
returns = st.builds(Return, seats, st.booleans())
becomings = st.builds(Become, seats, users)
restarts = st.builds(
    Restart,
    st.sampled_from([signal.SIGTERM, signal.SIGKILL]),
    st.sampled_from([FEW, ENOUGH, 10_000]),
    st.integers(0, 3),
)
redefinitions = st.builds(Redefine, st.booleans())
single_writes = st.one_of(makes, changes, shares)
writes = st.one_of(single_writes, single_writes, bulk_changes)
user_changes = st.one_of(user_moves, roles)
visibilities = st.one_of(user_changes, user_changes, role_changes, narrowings, group_moves)
