"""The hooks of each system store."""

from __future__ import annotations

from hub.services.credentials import Credentials
from hub.services.keys import KeyIssuer
from hub.services.registry import StoreRegistry
from hub.services.system_stores.base import StoreHooks
from hub.services.system_stores.definitions import DefinitionHooks
from hub.services.system_stores.groups import GroupHooks
from hub.services.system_stores.keys import KeyHooks
from hub.services.system_stores.roles import RoleHooks
from hub.services.system_stores.second_factors import SecondFactorHooks
from hub.services.system_stores.sessions import SessionHooks
from hub.services.system_stores.signins import SignInHooks
from hub.services.system_stores.tokens import TokenHooks
from hub.services.system_stores.users import UserHooks
from stores.protocol import Engine


def system_hooks(
    engine: Engine,
    registry: StoreRegistry,
    credentials: Credentials,
    issuer: KeyIssuer,
    most_tokens: int,
    most_matches: int,
) -> dict[str, StoreHooks]:
    """Return the hooks by store name. `most_tokens`: tokens that one user may have. `most_matches`: entities that a
    change of a definition may change."""
    return {
        "users": UserHooks(engine, registry, credentials),
        "groups": GroupHooks(engine, registry),
        "roles": RoleHooks(engine, registry),
        "tokens": TokenHooks(engine, registry, most_tokens),
        "keys": KeyHooks(engine, registry, issuer),
        "sessions": SessionHooks(engine, registry),
        "second_factors": SecondFactorHooks(engine, registry),
        "signins": SignInHooks(engine, registry),
        "stores": DefinitionHooks(engine, registry, most_matches),
    }
