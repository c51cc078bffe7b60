"""A token does nothing to a user who gets more rights than it has, while it is about to do that."""

from __future__ import annotations

from dataclasses import dataclass

import orjson
import pytest

from auth.errors import TooNarrow
from auth.groups import find_one
from auth.principal import Principal
from stores.protocol import Insert
from stores.query import Equal, Query
from stores.records import now_ms
from tests.support.entities import entity
from tests.support.racing import Racing

RIGHTS = ["GET /users/*", "* /second_factors/*", "* /tokens/*"]


@dataclass
class Promoted:
    """`narrow` is a token of an administrator. A user with one-time codes and a token of its own becomes one too."""

    racing: Racing
    narrow: Principal
    user: str
    factor: str
    token: str

    def at_commit(self) -> None:
        """Let the user become an administrator when the next request is about to commit."""
        hub, chief = self.racing.hub, self.racing.principal

        async def promote() -> None:
            [role] = await hub.engine.entities("roles", Query(Equal(("name",), "admin")))
            await hub.entities.change(chief, "users", self.user, {"roles": [role["_id"]]}, None)

        self.racing.before("commit", promote)


@pytest.fixture
async def promoted(racing: Racing) -> Promoted:
    hub, chief = racing.hub, racing.principal
    role = await racing.make("roles", {"name": "reader", "scopes": ["GET /users/*"]})
    user = await racing.make("users", {"login": "ada", "roles": [role]})
    factor = entity(user=user, secret="", confirmed=True, step=0, codes=[])
    await hub.engine.commit([Insert("second_factors", factor)], None)
    token = await racing.make("tokens", {"name": "ada", "user": user, "expires": now_ms() + 3_600_000})
    [(text, _)] = await hub.entities.create(chief, "tokens", [{"name": "narrow", "scopes": RIGHTS}])
    return Promoted(racing, await hub.resolver.resolve(orjson.loads(text)["token"]), user, factor["_id"], token)


async def test_the_codes_of_a_new_administrator_stay(promoted: Promoted) -> None:
    hub = promoted.racing.hub
    promoted.at_commit()
    with pytest.raises(TooNarrow):
        await hub.second_factors.remove(promoted.user, promoted.narrow)
    assert await hub.second_factors.is_in_force(promoted.user)


async def test_the_entity_with_the_codes_of_a_new_administrator_stays(promoted: Promoted) -> None:
    hub = promoted.racing.hub
    promoted.at_commit()
    with pytest.raises(TooNarrow):
        await hub.entities.delete(promoted.narrow, "second_factors", promoted.factor, None)
    assert await hub.second_factors.is_in_force(promoted.user)


@pytest.mark.gate("sqlite", "mongodb")
async def test_the_token_of_a_new_administrator_lasts_no_longer(promoted: Promoted) -> None:
    hub = promoted.racing.hub
    before = await find_one(hub.engine, "tokens", promoted.token)
    promoted.at_commit()
    with pytest.raises(TooNarrow):
        await hub.entities.change(promoted.narrow, "tokens", promoted.token, {"expires": None}, None)
    assert await find_one(hub.engine, "tokens", promoted.token) == before


async def test_what_the_token_may_do_it_does_beside_other_changes(promoted: Promoted) -> None:
    """A user who gets another name meanwhile has no more rights than before."""
    hub, chief = promoted.racing.hub, promoted.racing.principal
    promoted.racing.before("commit", lambda: hub.entities.change(chief, "users", promoted.user, {"name": "A"}, None))
    await hub.second_factors.remove(promoted.user, promoted.narrow)
    assert not await hub.second_factors.is_in_force(promoted.user)
