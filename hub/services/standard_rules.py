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


def standard_rules(engine: Engine, registry: StoreRegistry, credentials: Credentials) -> dict[str, Rules]:
    """The rules by the names of their stores."""
    return {
        "users": UserRules(engine, registry, credentials),
        "groups": GroupRules(engine, registry),
        "roles": RoleRules(engine, registry),
        "tokens": TokenRules(engine, registry),
        "sessions": SessionRules(engine, registry),
        "second_factors": SecondFactorRules(engine, registry),
        "signins": SignInRules(engine, registry),
        "stores": DefinitionRules(engine, registry),
    }
