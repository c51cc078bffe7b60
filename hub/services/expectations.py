"""Conditions that the hooks of system stores add to a commit, and the guards that order such commits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from auth.groups import inside
from auth.principal import CREDENTIAL_STORES, Principal
from stores.protocol import Expect
from stores.query import And, Equal, Filter, In, Not
from stores.records import Entity

ADMINISTRATORS: Final = "administrators"


def user_guard(user: str) -> str:
    """Return the guard for references to the user. Users share sixteen guards, by the last digit of their ids."""
    return f"user-{user[-1:]}"


def user_exists(user: str) -> Expect:
    return Expect("users", Equal(("_id",), user), guard=user_guard(user))


def user_is_unchanged(user: Entity) -> Expect:
    """Expect the user at the revision that was read."""
    where = And((Equal(("_id",), user["_id"]), Equal(("_rev",), user["_rev"])))
    return Expect("users", where, guard=user_guard(user["_id"]))


def password_is(user: Entity) -> Expect:
    """Expect the password that was read, and that the user is not disabled.

    The commit that begins a session contains this, and the commit that ends sessions contains `user_exists`. Their
    common guard prevents a session from beginning unnoticed while others are ended.
    """
    same = Equal(("password",), user.get("password"))
    where = And((Equal(("_id",), user["_id"]), same, Not(Equal(("disabled",), True))))
    return Expect("users", where, guard=user_guard(user["_id"]))


def credential_is_good(principal: Principal, user: str) -> list[Expect]:
    """Expect that the user exists and that the caller's credential has not been ended meanwhile."""
    expected = [user_exists(user)]
    if principal.kind != "control":
        store = CREDENTIAL_STORES[principal.kind]
        guard = user_guard(principal.user_id)
        expected.append(Expect(store, Equal(("_id",), principal.credential_id), guard=guard))
    return expected


def user_is_active(user: str) -> Expect:
    """Expect that the user exists and is not disabled."""
    where = And((Equal(("_id",), user), Not(Equal(("disabled",), True))))
    return Expect("users", where, guard=user_guard(user))


def credentials_are_few(store: str, user: str, most: int) -> Expect:
    """Expect that the user has at most `most` tokens or keys. It must follow the writes that create them."""
    return Expect(store, Equal(("user",), user), least=0, most=most, guard=user_guard(user))


def user_is_gone(user: str) -> Expect:
    """Expect that the user does not exist. The commit that deletes the user contains this."""
    return Expect("users", Equal(("_id",), user), least=0, most=0, guard=user_guard(user))


def an_administrator_remains(role: str) -> Expect:
    """Expect that a user who is not disabled has the administrators' role."""
    active = And((Equal(("roles",), role), Not(Equal(("disabled",), True))))
    return Expect("users", active, guard=ADMINISTRATORS)


def roles_exist(roles: Iterable[str]) -> list[Expect]:
    wanted = tuple(dict.fromkeys(roles))
    return [Expect("roles", In(("_id",), wanted), len(wanted))] if wanted else []


def nobody_has_role(role: str) -> Expect:
    return _none("users", Equal(("roles",), role), "roles")


def groups_exist(*groups: str | None) -> list[Expect]:
    return [Expect("groups", Equal(("_id",), group)) for group in groups if group is not None]


def nothing_is_in_group(group: str) -> list[Expect]:
    return [_none(store, inside(path, [group]), "groups") for store, path in (("groups", "parent"), ("users", "group"))]


def groups_are_unchanged(groups: Sequence[Entity]) -> list[Expect]:
    """Expect each group at the revision that was read."""
    return [Expect("groups", And((Equal(("_id",), g["_id"]), Equal(("_rev",), g["_rev"])))) for g in groups]


def subtree_has_not_grown(subtree: Mapping[str, Sequence[str]]) -> list[Expect]:
    """Expect no group below except those in `subtree`, on the same levels. It holds the chain of each group by id."""
    levels: dict[int, list[str]] = {}
    for group, chain in subtree.items():
        levels.setdefault(len(chain), []).append(group)
    expected = []
    for level, ids in levels.items():
        known = In(("_id",), tuple(levels.get(level + 1, ())))
        expected.append(_none("groups", And((inside("parent", ids), Not(known))), "groups"))
    return expected


def users_exist(users: Sequence[str]) -> list[Expect]:
    """Return one expectation for each guard."""
    by_guard: dict[str, list[str]] = {}
    for user in users:
        by_guard.setdefault(user_guard(user), []).append(user)
    return [Expect("users", In(("_id",), tuple(ids)), len(ids), guard=guard) for guard, ids in by_guard.items()]


def _none(store: str, where: Filter, guard: str) -> Expect:
    return Expect(store, where, least=0, most=0, guard=guard)
