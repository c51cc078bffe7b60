"""The rules of each standard store."""

from __future__ import annotations

from hub.services.credentials import Credentials
from hub.services.definition_rules import DefinitionRules
from hub.services.registry import StoreRegistry
from hub.services.rules import (
    GroupRules,
    RoleRules,
    Rules,
    SecondFactorRules,
    SessionRules,
    SignInRules,
    TokenRules,
    UserRules,
)
from stores.protocol import Engine


def standard_rules(
    engine: Engine, registry: StoreRegistry, credentials: Credentials, most_tokens: int
) -> dict[str, Rules]:
    """The rules by the names of their stores. `most_tokens`: that one user may have."""
    return {
        "users": UserRules(engine, registry, credentials),
        "groups": GroupRules(engine, registry),
        "roles": RoleRules(engine, registry),
        "tokens": TokenRules(engine, registry, most_tokens),
        "sessions": SessionRules(engine, registry),
        "second_factors": SecondFactorRules(engine, registry),
        "signins": SignInRules(engine, registry),
        "stores": DefinitionRules(engine, registry),
    }
