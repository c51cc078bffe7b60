"""The one value that stands for a caller, however they signed in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from auth.scopes import Scopes
from auth.view import View
from stores.schema import StoreDefinition

CredentialKind = Literal["session", "access", "token", "control"]


@dataclass(frozen=True, slots=True)
class Principal:
    """A user as the holder of one credential.

    `branch` is the chain of groups from the user's own up to the root, stamped on what the user creates.
    `role_scopes` is None for a user without roles, who may use every store that is not a system store;
    `token_scopes` is None unless the credential narrows its user. `expires` is Unix ms.
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
    """By store and method, the view of the principal that `auth.policy` made of this definition."""

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups that the user belongs to: entities of these and of the groups below them are visible to it."""
        return (self.group,) if self.group else ()

    def may(self, method: str, store: str) -> bool:
        """Whether the scopes allow the method on a store that is not a system store."""
        if self.token_scopes is not None and not self.token_scopes.allow(method, store):
            return False
        return self.admin or self.role_scopes is None or self.role_scopes.allow(method, store)

    def may_administer(self, method: str, store: str) -> bool:
        """The same for a system store: administrators may all, others read what a role names."""
        if not self.token_may_administer(method, store):
            return False
        if self.admin:
            return True
        reading = method in ("GET", "HEAD")
        return reading and self.role_scopes is not None and self.role_scopes.allow(method, store, system=True)

    def token_may_administer(self, method: str, store: str) -> bool:
        """Whether the credential, by itself, reaches into a system store."""
        if self.token_scopes is None:
            return True
        # An administrator's `*` means what it does for the administrator: every store.
        return self.token_scopes.allow(method, store, system=not self.admin)
