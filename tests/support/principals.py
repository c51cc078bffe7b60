"""A principal for tests of code that takes one."""

from __future__ import annotations

from auth.principal import Principal
from auth.scopes import Scopes, parse_scopes
from stores.records import new_id

ME, GROUP = new_id(), new_id()


def user(*, admin: bool = False, role: str | None = None, token: str | None = None) -> Principal:
    """Return the user ME of GROUP. `role` and `token`: scopes, separated by commas; None for all rights."""

    def scopes(texts: str | None) -> Scopes | None:
        return None if texts is None else parse_scopes(texts.split(","))

    return Principal(
        user_id=ME, login="me", group=GROUP, branch=(GROUP,), roles=(), admin=admin, role_scopes=scopes(role),
        token_scopes=scopes(token), kind="session", credential_id=new_id(), expires=2**62,
    )  # fmt: skip
