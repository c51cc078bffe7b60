"""The value that represents a caller, whatever credential it uses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from auth.scopes import WRITING, Scopes
from auth.system_stores import SYSTEM_STORES
from auth.view import View
from stores.schema import StoreDefinition

CredentialKind = Literal["session", "access", "token", "key", "control"]

CREDENTIAL_STORES: Final[Mapping[CredentialKind, str]] = {
    "session": "sessions",
    "access": "sessions",
    "token": "tokens",
    "key": "keys",
}
"""The system store of each kind of credential that is stored."""


@dataclass(frozen=True, slots=True)
class Principal:
    """A user as the holder of one credential.

    `branch` is the chain of groups from the user's own up to the root; it is stamped on entities that the user creates.
    `role_scopes` is None for a user without roles, who may use every store that is not a system store. `token_scopes`
    is None unless the credential narrows the rights of its user. `expires` is Unix ms. The principal of a key is no
    administrator, whoever its user is.
    """

    user_id: str
    login: str
    group: str | None
    branch: tuple[str, ...]
    roles: tuple[str, ...]
    admin: bool
    role_scopes: Scopes | None
    token_scopes: Scopes | None
    kind: CredentialKind
    credential_id: str
    expires: int
    views: dict[tuple[str, str], tuple[StoreDefinition, View | None]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """Cache of `auth.policy`: the view by store and method, with the definition that it was made from."""

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups of the user. Entities of these groups and of the groups below them are visible to the user."""
        return (self.group,) if self.group else ()

    def may(self, method: str, store: str) -> bool:
        """Return whether the scopes allow the method on a store that is not a system store."""
        if not self.token_may(method, store):
            return False
        return self.admin or self.role_scopes is None or self.role_scopes.allow(method, store)

    def token_may(self, method: str, store: str) -> bool:
        """Return whether the scopes of the credential, apart from roles, allow the method on a store that is not a
        system store."""
        return self.token_scopes is None or self.token_scopes.allow(method, store)

    def may_write_somewhere(self) -> bool:
        """Return whether the scopes allow a method that writes to some store that is not a system store."""
        bounds = [self.token_scopes, None if self.admin else self.role_scopes]
        named = {
            store
            for scopes in bounds
            if scopes is not None
            for method, store in scopes.pairs
            if method in WRITING or method == "*"
        }
        stores = {"*", *named} - SYSTEM_STORES.keys()
        return any(self.may(method, store) for store in stores for method in WRITING)

    def may_administer(self, method: str, store: str) -> bool:
        """Return whether the principal may use the method on a system store.

        An administrator may use all methods; others may read stores that a role names.
        """
        if not self.token_may_administer(method, store):
            return False
        if self.admin:
            return True
        reading = method in ("GET", "HEAD")
        return reading and self.role_scopes is not None and self.role_scopes.allow(method, store, system=True)

    def token_may_administer(self, method: str, store: str) -> bool:
        """Return whether the scopes of the credential, apart from roles, allow the method on a system store."""
        if self.token_scopes is None:
            return True
        # In an administrator's token `*` includes the system stores.
        return self.token_scopes.allow(method, store, system=not self.admin)
