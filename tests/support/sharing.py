"""A large store in which one user can see only a few entities, one for each rule of visibility."""

from __future__ import annotations

from stores.protocol import Engine
from stores.query import Equal, Filter, In, Or
from stores.records import Entity
from stores.schema import StoreDefinition
from tests.support.entities import STORE, entity, insert

OTHER = "5f00000000000000000000c0"
ME = "5f00000000000000000000c1"
TEAM = "5f00000000000000000000d1"
COMPANY = "5f00000000000000000000d2"
INDEXED = StoreDefinition(STORE, indexes=("n", "kind"))


def seen_by(user: str, *groups: str) -> Filter:
    """Return the filter that `auth.policy.visible_to` makes for a user in these groups."""
    choices = (Equal(("owner",), user), Equal(("access",), user), In(("group",), groups), In(("branch",), groups))
    return Or(choices)


MINE = seen_by(ME, TEAM)

SHOWN: dict[str, Entity] = {
    "owner": {"owner": ME},
    "access": {"access": ["5f00000000000000000000c9", ME]},
    "group": {"group": TEAM},
    "branch": {"group": "5f00000000000000000000d9", "branch": ["5f00000000000000000000d9", TEAM]},
}
"""Rule of visibility → the fields that make an entity visible to ME by it."""


def others(count: int) -> list[Entity]:
    """Return entities that ME cannot see."""
    hidden = {"owner": OTHER, "group": COMPANY, "branch": [COMPANY], "access": [OTHER]}
    return [entity(hidden, n=n, kind=f"k{n % 7}", time=1_700_000_000_000 + n) for n in range(count)]


async def fill(engine: Engine) -> None:
    """Fill the store with two thousand entities, of which ME can see four, one by each rule."""
    await engine.define(INDEXED)
    entities = others(2_000)
    for n, shown in zip((3, 700, 1_400, 1_999), SHOWN.values(), strict=True):
        entities[n] |= shown
    await insert(engine, *entities)
