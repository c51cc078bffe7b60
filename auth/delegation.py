"""Long-lived tokens with scopes cannot grant a right that they do not have themselves.

Otherwise the holder of a token for one task of an administrator, such as `PATCH /users/*`, could set the password of an
administrator, sign in as that administrator, and do everything.
"""

from __future__ import annotations

from collections.abc import Iterable

from auth.errors import TooNarrow
from auth.principal import Principal
from auth.resolver import parsed_scopes, read_roles, role_scopes
from auth.scopes import ALL, METHODS, Scopes
from auth.system_stores import ADMIN_ROLE, SYSTEM_STORES
from stores.protocol import Engine


def check_grant(principal: Principal, field: str, wanted: Scopes, had: Scopes | None = None) -> None:
    """Raise TooNarrow if `wanted` contains a right that neither the caller's token nor `had` contains.

    `had` is what the grantee had before. Other credentials may grant any right. `field` is the field of the request
    that the error names.
    """
    own = principal.token_scopes
    if own is None:
        return
    for method, store in _single(wanted):
        # `*` includes system stores for an administrator; for others a scope must name them.
        system = store in SYSTEM_STORES
        if own.allow(method, store, system=system and not principal.admin):
            continue
        if had is None or not had.allow(method, store, system=system):
            raise TooNarrow(field, f"{method} /{store}")


async def check_user_rights(engine: Engine, principal: Principal, field: str, roles: object) -> None:
    """Raise TooNarrow if a user with these roles has a right that the caller's token does not have."""
    if principal.token_scopes is not None:
        check_grant(principal, field, await rights_of_roles(engine, roles))


async def rights_of_roles(engine: Engine, roles: object) -> Scopes:
    """Return the scopes of a user with these roles.

    They are `* /*` for an administrator and for a user without roles. Only a token with that scope covers them.
    """
    if not roles:
        return ALL
    found = await read_roles(engine, roles)
    return ALL if any(role["name"] == ADMIN_ROLE for role in found) else role_scopes(found)


def rights_of_role(name: object, scopes: Iterable[object]) -> Scopes:
    return ALL if name == ADMIN_ROLE else parsed_scopes(scopes)


def _single(scopes: Scopes) -> Iterable[tuple[str, str]]:
    """Yield the scopes, one method each."""
    for method, store in sorted(scopes.pairs):
        for each in METHODS if method == "*" else (method,):
            yield each, store
