"""The hooks of each system store."""

from __future__ import annotations

from hub.services.credentials import Credentials
from hub.services.definition_hooks import DefinitionHooks
from hub.services.registry import StoreRegistry
from hub.services.store_hooks import (
    GroupHooks,
    RoleHooks,
    SecondFactorHooks,
    SessionHooks,
    SignInHooks,
    StoreHooks,
    TokenHooks,
    UserHooks,
)
from stores.protocol import Engine


def system_hooks(
    engine: Engine, registry: StoreRegistry, credentials: Credentials, most_tokens: int
) -> dict[str, StoreHooks]:
    """Return the hooks by store name. `most_tokens`: tokens that one user may have."""
    return {
        "users": UserHooks(engine, registry, credentials),
        "groups": GroupHooks(engine, registry),
        "roles": RoleHooks(engine, registry),
        "tokens": TokenHooks(engine, registry, most_tokens),
        "sessions": SessionHooks(engine, registry),
        "second_factors": SecondFactorHooks(engine, registry),
        "signins": SignInHooks(engine, registry),
        "stores": DefinitionHooks(engine, registry),
    }
