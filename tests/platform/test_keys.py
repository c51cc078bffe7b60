"""API keys: who may make which, what is shown of them, and when they stop opening anything."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from auth.errors import Forbidden, Unauthenticated
from auth.keys import KeyHolder
from auth.policy import authorize
from auth.principal import Principal
from auth.secrets import digest
from auth.system_stores import SYSTEM_STORES
from hub.services.keys import KeyIssuer
from stores.errors import Conflict
from stores.query import Equal, Query
from stores.records import Entity, now_ms
from stores.schema import StoreDefinition
from tests.platform.answers import good, refused
from tests.support.engines import Database
from tests.support.hub import Client, Hub, eventually, running_hub, unique
from tests.support.live import Refused, live
from tests.support.racing import Racing

LISTINGS = "listings"
SECRET = re.compile(r"RW?_[A-Za-z0-9]{32}")
PASSWORD = "open sesame 1"


def new(**fields: Any) -> Entity:
    return {"name": "site", "kind": LISTINGS, **fields}


# Over HTTP: what is shown, and who may do what.


@pytest.mark.parametrize("scope", ["R", "RW"])
async def test_a_secret_is_shown_once(hub: Hub, admin: Client, user: Client, scope: str) -> None:
    """Neither lists nor the history nor another answer contain it, or what is stored of it."""
    made = await admin.make("keys", new(user=user.id, scope=scope))
    secret = made.pop("key")
    assert SECRET.fullmatch(secret)
    assert secret.startswith(f"{scope}_")
    assert made["prefix"] == secret[: len(scope) + 7]
    assert (made["user"], made["owner"], made["active"], made["expires"]) == (user.id, user.id, True, None)
    path = f"/keys/{made['_id']}"
    renamed = await admin.patch(path, {"name": "shop"})
    for answer in (await admin.get(path), await admin.get("/keys"), renamed, await admin.get(f"{path}/history")):
        good(answer)
        assert secret not in answer.text
        assert digest(secret) not in answer.text
    refused(await admin.get("/keys", {"digest": digest(secret)}), 400, "digest")


async def test_a_key_reads_by_default(user: Client) -> None:
    made = await user.make("keys", new())
    assert (made["scope"], made["allowed_origins"]) == ("R", [])


async def test_a_key_opens_neither_the_platform_api_nor_the_live_endpoint(hub: Hub, admin: Client) -> None:
    secret = (await admin.make("keys", new(scope="RW")))["key"]
    refused(await hub.client(secret).get("/auth"), 401)
    refused(await hub.client(cookie=f"sid={secret}").get("/auth"), 401)
    refused(await hub.client(secret).delete("/auth"), 401)
    ways: list[dict[str, Any]] = [{"headers": {"Authorization": f"Bearer {secret}"}}, {"query": {"token": secret}}]
    for options in ways:
        with pytest.raises(Refused, match=r"^Unauthorized$"):
            async with live(hub, **options):
                pass


async def test_users_have_their_own_keys_that_read(hub: Hub, admin: Client, user: Client, other: Client) -> None:
    made = await user.make("keys", new(allowed_origins=["example.com"]))
    path = f"/keys/{made['_id']}"
    assert made["_id"] in [key["_id"] for key in await user.list("keys")]
    changes = {"name": "shop", "allowed_origins": ["www.example.com"], "active": False, "expires": now_ms() + 99_000}
    assert good(await user.patch(path, changes)).items() >= changes.items()
    good(await user.patch(path, {"active": True, "scope": "R", "user": user.id}))
    for answer in (await other.get(path), await other.patch(path, {"name": "x"}), await other.delete(path)):
        refused(answer, 404)
    assert await other.list("keys", {"user": user.id}) == []
    good(await user.delete(path))
    refused(await user.get(path), 404)


@pytest.mark.parametrize(
    ("method", "fields", "named"),
    [
        ("POST", {"scope": "RW"}, "scope"),
        ("POST", {"user": "other"}, "user"),
        ("PATCH", {"scope": "RW"}, "scope"),
        ("PATCH", {"user": "other"}, "user"),
        ("PUT", {}, None),
    ],
)
async def test_what_only_administrators_may_is_refused(
    user: Client, other: Client, admin: Client, method: str, fields: Entity, named: str | None
) -> None:
    fields = {name: other.id if value == "other" else value for name, value in fields.items()}
    if method == "POST":
        refused(await user.post("/keys", new(**fields)), 403, "scope" if named == "scope" else "user")
        assert good(await admin.post("/keys", new(**fields)))["key"]
        return
    made = await user.make("keys", new())
    answer = await user.request(method, f"/keys/{made['_id']}", json=fields or new())
    refused(answer, 403, *([named] if named else []))
    assert (await user.see("keys", made["_id"]))["scope"] == "R"


async def test_a_key_that_writes_is_changed_by_administrators_and_deleted_by_its_user_too(
    admin: Client, user: Client
) -> None:
    made = await admin.make("keys", new(user=user.id, scope="RW"))
    path = f"/keys/{made['_id']}"
    assert (await user.see("keys", made["_id"]))["scope"] == "RW"
    refused(await user.patch(path, {"name": "mine"}), 403, "_id")
    assert good(await admin.patch(path, {"name": "theirs", "scope": "R"}))["scope"] == "R"
    assert good(await admin.patch(path, {"scope": "RW"}))["prefix"].startswith("RW_")
    good(await user.delete(path))


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        (["Example.COM", "example.com", "www.example.com"], ["example.com", "www.example.com"]),
        (["localhost", "xn--bcher-kva.example", "192.0.2.7"], ["localhost", "xn--bcher-kva.example", "192.0.2.7"]),
        ([], []),
        (None, []),
    ],
)
async def test_origins_are_hostnames_in_lower_case(user: Client, sent: Any, stored: list[str]) -> None:
    made = await user.make("keys", new(allowed_origins=sent))
    assert made["allowed_origins"] == stored
    changed = await user.patch(f"/keys/{made['_id']}", {"allowed_origins": sent})
    assert good(changed)["allowed_origins"] == stored


@pytest.mark.parametrize(
    "origins",
    [
        ["https://example.com"], ["example.com:443"], ["*.example.com"], ["example.com/"], [""], ["a b"], ["-a.com"],
        ["example.com."], ["a..b"], ["bücher.example"], ["a_b.example"], ["example.com\n"], ["x" * 64 + ".example"],
        [".".join(["a" * 60] * 5)], ["null"] * 101, "example.com", [1], [None], {"a": 1},
    ],
)  # fmt: skip
async def test_other_origins_are_refused(user: Client, origins: Any) -> None:
    errors = refused(await user.post("/keys", new(allowed_origins=origins)), 400)
    assert all(name.startswith("allowed_origins") for name in errors)
    assert errors


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"kind": "shop"}, "kind"),
        ({"kind": None}, "kind"),
        ({"name": ""}, "name"),
        ({"scope": "W"}, "scope"),
        ({"scope": None}, "scope"),
        ({"active": None}, "active"),
        ({"active": "no"}, "active"),
        ({"expires": "soon"}, "expires"),
        ({"expires": 1}, "expires"),
        ({"user": "0" * 24}, "user"),
        ({"user": "ada"}, "user"),
        ({"key": "R_mine"}, "key"),
    ],
)
async def test_a_key_that_cannot_be_is_refused(admin: Client, fields: Entity, named: str) -> None:
    refused(await admin.post("/keys", new(**fields)), 400, named)


async def test_what_the_hub_assigns_stays(admin: Client, user: Client, other: Client) -> None:
    made = await admin.make("keys", new(user=user.id))
    path = f"/keys/{made['_id']}"
    assigned: list[Entity] = [{"user": other.id}, {"prefix": "R_x"}, {"digest": made["prefix"]}, {"last_used": 1}]
    for fields in assigned:
        [name] = fields
        errors = refused(await admin.patch(path, fields), 400, name)
        assert errors[name] == ["Only name, scope, allowed_origins, expires and active of a key can be changed."]
    made.pop("key")
    assert good(await admin.put(path, made))["prefix"] == made["prefix"]


async def test_a_secret_cannot_be_repeated(user: Client) -> None:
    refused(await user.post("/keys", new(), idempotency_key="again"), 400, "Idempotency-Key")


async def test_a_narrow_token_makes_and_widens_no_key_beyond_it(hub: Hub, admin: Client, user: Client) -> None:
    """A key is a long-lived credential, like a token that a token makes."""
    narrow = await hub.with_token(user.user, scopes=["* /keys/*"])
    reading = await hub.with_token(user.user, scopes=["* /keys/*", "GET /*"])
    refused(await narrow.post("/keys", new()), 403, "scope")
    made = await reading.make("keys", new(allowed_origins=["example.com"], expires=now_ms() + 60_000))
    path = f"/keys/{made['_id']}"
    widenings: list[Entity] = [{"expires": None}, {"allowed_origins": []}, {"allowed_origins": ["other.example"]}]
    for wider in widenings:
        refused(await narrow.patch(path, wider), 403, *wider)
    assert good(await narrow.patch(path, {"active": False, "name": "off"}))["active"] is False
    refused(await narrow.patch(path, {"active": True}), 403, "active")
    good(await reading.patch(path, {"active": True, "expires": None}))
    of_admin = await hub.with_token(admin.user, scopes=["* /keys/*", "GET /*"])
    refused(await of_admin.post("/keys", new(scope="RW", user=user.id)), 403, "scope")
    refused(await of_admin.patch(path, {"scope": "RW"}), 403, "scope")


async def test_a_key_does_not_outlive_the_token_that_makes_it(hub: Hub, user: Client) -> None:
    end = now_ms() + 3_600_000
    brief = await hub.with_token(user.user, expires=end)
    made = await brief.make("keys", new())
    assert made["expires"] == end
    refused(await brief.post("/keys", new(expires=end + 1)), 400, "expires")
    refused(await brief.patch(f"/keys/{made['_id']}", {"expires": None}), 400, "expires")


@pytest.fixture
async def narrow(database: Database, tmp_path: Path) -> AsyncIterator[Hub]:
    async with running_hub(database, tmp_path / "hub", max_keys_per_user=3) as hub:
        yield hub


async def test_further_keys_of_a_user_are_refused(narrow: Hub) -> None:
    user, other = await narrow.as_user(), await narrow.as_user()
    made = await user.make_all("keys", [new(), new()])
    text = "A user may have 3 keys: this one has {}. Revoke some first."
    errors = refused(await narrow.admin.post("/keys", [new(user=user.id)] * 2), 400, "user")
    assert errors == {"user": [text.format(2)]}
    await narrow.admin.make("keys", new(user=user.id))
    assert refused(await user.post("/keys", new()), 400) == {"user": [text.format(3)]}
    assert refused(await other.post("/keys", [new()] * 4), 400) == {"user": [text.format(0)]}
    good(await user.delete(f"/keys/{made[0]['_id']}"))
    await user.make("keys", new())


async def test_a_new_password_ends_keys_with_tokens(hub: Hub, database: Database, tmp_path: Path) -> None:
    async def keys_after(hub: Hub) -> int:
        user = await hub.as_user(PASSWORD)
        await user.make("keys", new())
        good(await hub.admin.patch(f"/users/{user.id}", {"password": "another phrase 2"}))
        return len(await hub.admin.list("keys", {"user": user.id}))

    assert await keys_after(hub) == 0
    async with running_hub(database, tmp_path / "hub", reset_ends_tokens=False) as keeping:
        assert await keys_after(keeping) == 1


async def test_ending_ones_sessions_and_tokens_keeps_keys(hub: Hub) -> None:
    """Websites go on when their owner has lost a laptop: keys are revoked in their store."""
    user = await hub.as_user()
    await user.make("keys", new())
    good(await user.request("DELETE", "/auth/sessions", json={"tokens": True}))
    assert len(await user.list("keys")) == 1


# In this process: what keys open.


async def issued(racing: Racing, **fields: Any) -> tuple[Entity, str]:
    """Create a key of a new user; return it with its secret."""
    user = await racing.make("users", {"login": unique("user")})
    entities = racing.hub.entities
    [(text, _)] = await entities.create(racing.principal, "keys", [new(user=user, **fields)])
    key = orjson.loads(text)
    return key, key.pop("key")


async def resolved(racing: Racing, secret: str) -> KeyHolder:
    return await racing.hub.resolver.resolve_key(secret, LISTINGS)


async def change(racing: Racing, store: str, id: str, fields: Entity) -> None:
    await racing.hub.entities.change(racing.principal, store, id, fields, None)


def silent(racing: Racing) -> None:
    """Keep the feed's news from the resolver: what a request changes is in force when it is answered."""
    racing.monkeypatch.setattr(racing.hub.resolver, "forget", lambda changes: None)


async def test_a_holder_has_the_key_and_its_user(racing: Racing) -> None:
    key, secret = await issued(racing, scope="RW", allowed_origins=["Example.com"])
    holder = await resolved(racing, secret)
    user = await racing.see("users", key["user"])
    assert (holder.key.id, holder.key.name, holder.key.kind, holder.key.scope) == (key["_id"], "site", LISTINGS, "RW")
    assert (holder.key.origins, holder.number) == ({"example.com"}, user["number"])
    principal = holder.principal
    assert (principal.kind, principal.user_id, principal.credential_id) == ("key", user["_id"], key["_id"])
    assert await resolved(racing, secret) is holder


ENDS: dict[str, Callable[[Racing, Entity], Awaitable[object]]] = {
    "deleted": lambda racing, key: racing.hub.entities.delete(racing.principal, "keys", key["_id"], None),
    "not active": lambda racing, key: change(racing, "keys", key["_id"], {"active": False}),
    "user disabled": lambda racing, key: change(racing, "users", key["user"], {"disabled": True}),
    "user deleted": lambda racing, key: racing.hub.entities.delete(racing.principal, "users", key["user"], None),
    "new password": lambda racing, key: change(racing, "users", key["user"], {"password": PASSWORD}),
}


@pytest.mark.gate("sqlite", "mongodb")
@pytest.mark.parametrize("way", ENDS)
async def test_a_key_that_has_ended_opens_nothing_at_the_next_request(racing: Racing, way: str) -> None:
    silent(racing)
    key, secret = await issued(racing)
    await resolved(racing, secret)
    await ENDS[way](racing, key)
    with pytest.raises(Unauthenticated):
        await resolved(racing, secret)
    if way.endswith(("deleted", "password")):
        assert await racing.hub.engine.entities("keys", Query(Equal(("user",), key["user"]))) == []


async def test_a_key_opens_again_when_it_or_its_user_is_enabled(racing: Racing) -> None:
    silent(racing)
    key, secret = await issued(racing)
    for store, id, off, on in (
        ("keys", key["_id"], {"active": False}, {"active": True}),
        ("users", key["user"], {"disabled": True}, {"disabled": False}),
    ):
        await change(racing, store, id, off)
        with pytest.raises(Unauthenticated):
            await resolved(racing, secret)
        await change(racing, store, id, on)
        await resolved(racing, secret)


async def test_an_expired_key_opens_nothing(racing: Racing) -> None:
    key, secret = await issued(racing, expires=now_ms() + 3_600_000)
    await resolved(racing, secret)
    await racing.spoil("keys", key["_id"], {"expires": now_ms() - 1})
    racing.hub.resolver.forget_all()
    with pytest.raises(Unauthenticated):
        await resolved(racing, secret)


async def test_only_a_key_of_the_kind_opens(racing: Racing) -> None:
    """Neither tokens, nor sessions, nor the command line's own credential, nor what only looks like a key."""
    _, secret = await issued(racing)
    token = orjson.loads((await racing.hub.entities.create(racing.principal, "tokens", [{"name": "t"}]))[0][0])
    for wrong in (token["token"], racing.hub.control_token, secret[:-1] + "é", f"{secret} ", secret[2:], "R_", ""):
        with pytest.raises(Unauthenticated):
            await resolved(racing, wrong)
    with pytest.raises(Unauthenticated):
        await racing.hub.resolver.resolve_key(secret, "shop")
    for _ in range(2):  # also when the holder is cached
        await resolved(racing, secret)
        with pytest.raises(Unauthenticated):
            await racing.hub.resolver.resolve(secret)


async def test_a_change_of_a_key_is_in_force_at_the_next_request(racing: Racing) -> None:
    """The scope is that of the entity, whatever the secret begins with."""
    silent(racing)
    key, secret = await issued(racing)
    reading = await resolved(racing, secret)
    assert not reading.principal.may("PATCH", "units")
    await change(racing, "keys", key["_id"], {"scope": "RW", "name": "shop", "allowed_origins": ["a.example"]})
    holder = await resolved(racing, secret)
    assert (holder.key.scope, holder.key.name, holder.key.origins) == ("RW", "shop", {"a.example"})
    assert holder.principal.may("PATCH", "units")
    with pytest.raises(Forbidden):
        await racing.hub.resolver.confirm(reading.principal)
    await racing.hub.resolver.confirm(holder.principal)
    await change(racing, "keys", key["_id"], {"active": False})
    with pytest.raises(Unauthenticated):
        await racing.hub.resolver.confirm(holder.principal)


async def test_a_key_of_an_administrator_is_none(racing: Racing) -> None:
    """It sees what belongs to its user, and no system store."""
    [(text, _)] = await racing.hub.entities.create(racing.principal, "keys", [new(scope="RW")])
    principal = (await resolved(racing, orjson.loads(text)["key"])).principal
    assert not principal.admin
    units = StoreDefinition("units")
    assert authorize(principal, units, "DELETE").where == authorize(plain(principal), units, "DELETE").where
    for definition in SYSTEM_STORES.values():
        for method in ("GET", "POST", "PATCH", "DELETE"):
            with pytest.raises(Forbidden):
                authorize(principal, definition, method)


def plain(principal: Principal) -> Principal:
    """Return a user with the same id and groups, and no more rights than any."""
    return Principal(
        principal.user_id,
        "x",
        principal.group,
        principal.branch,
        (),
        False,
        None,
        None,
        "session",
        "",
        principal.expires,
    )


class Visit:
    """A request, as far as its use of a credential is recorded."""

    address = "192.0.2.1"

    def header(self, name: bytes) -> str | None:
        return "browser"


async def test_the_time_of_the_last_use_is_kept_and_nothing_of_the_visitor(racing: Racing) -> None:
    key, secret = await issued(racing)
    holder = await resolved(racing, secret)
    racing.hub.accounts.note_use(holder.principal, Visit())

    async def noted() -> bool:
        return (await racing.see("keys", key["_id"]))["last_used"] is not None

    await eventually(noted)
    seen = await racing.see("keys", key["_id"])
    assert abs(seen["last_used"] - now_ms()) < 60_000
    assert not {"address", "agent"} & seen.keys()
    assert await resolved(racing, secret) is holder


# The first key of a kind.


async def test_the_first_key_of_a_kind_prepares_it(racing: Racing) -> None:
    """A creation that is refused prepares nothing; a preparation that is refused leaves no key."""
    prepared: list[str] = []
    conflicts = [Conflict("in the way")]

    async def prepare(kind: str, *, adopts: bool) -> None:
        prepared.append(kind)
        if conflicts:
            raise conflicts.pop()

    hub = racing.hub
    issuer = KeyIssuer(hub.engine, 10, prepare)
    racing.monkeypatch.setattr(hub.entities._hooks["keys"], "_issuer", issuer)
    refusals: list[Entity] = [{"user": "0" * 24}, {"allowed_origins": ["a b"]}]
    for wrong in refusals:
        with pytest.raises(Exception, match=r"user|allowed_origins"):
            await hub.entities.create(racing.principal, "keys", [new(**wrong)])
    assert prepared == []
    with pytest.raises(Conflict):
        await hub.entities.create(racing.principal, "keys", [new()])
    assert await hub.engine.entities("keys", Query()) == []
    for _ in range(2):
        await hub.entities.create(racing.principal, "keys", [new(), new()])
    assert prepared == [LISTINGS, LISTINGS]


# Two processes.


@pytest.mark.engine("mongodb")
@pytest.mark.parametrize("way", ["deleted", "active", "disabled", "user deleted"])
async def test_a_key_that_has_ended_in_one_process_opens_nothing_in_another(
    racing: Racing, database: Database, tmp_path: Path, way: str
) -> None:
    key, secret = await issued(racing)
    await resolved(racing, secret)
    async with running_hub(database, tmp_path / "second") as second:
        admin = second.admin
        calls = {
            "deleted": lambda: admin.delete(f"/keys/{key['_id']}"),
            "active": lambda: admin.patch(f"/keys/{key['_id']}", {"active": False}),
            "disabled": lambda: admin.patch(f"/users/{key['user']}", {"disabled": True}),
            "user deleted": lambda: admin.delete(f"/users/{key['user']}"),
        }
        good(await calls[way]())

    async def ended() -> bool:
        try:
            await resolved(racing, secret)
        except Unauthenticated:
            return True
        return False

    await eventually(ended)
