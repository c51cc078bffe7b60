"""The system stores, which always exist: users and their rights, credentials, and the definitions of stores."""

from __future__ import annotations

from typing import Final

from stores.field import Field
from stores.schema import StoreDefinition

ADMIN_ROLE: Final = "admin"

USERS: Final = StoreDefinition(
    "users",
    (
        Field("login", "Text", required=True, unique=True, search=True),
        Field("name", "Text", search=True),
        Field("email", "Text", search=True),
        Field("login_key", "Text", hidden=True, unique=True),
        Field("password", "Text", hidden=True),
        Field("roles", "JSON"),
        Field("disabled", "Boolean"),
    ),
    open=False,
    indexes=("roles",),
    system=True,
)
"""`login_key` is the form of a login that is compared, without case. The group of a user is the system field `group` of
its own entity. That field is writable only in this store."""

GROUPS: Final = StoreDefinition(
    "groups",
    (Field("name", "Text", required=True, search=True), Field("parent", "Text", index=True)),
    open=False,
    system=True,
)

ROLES: Final = StoreDefinition(
    "roles",
    (Field("name", "Text", required=True, unique=True, search=True), Field("scopes", "JSON", required=True)),
    open=False,
    system=True,
)

TOKENS: Final = StoreDefinition(
    "tokens",
    (
        Field("name", "Text", required=True, search=True),
        Field("scopes", "JSON"),
        Field("expires", "JSON"),
        Field("user", "Text", index=True),
        Field("prefix", "Text"),
        Field("digest", "Text", hidden=True, unique=True),
        Field("last_used", "Number"),
        Field("address", "Text"),
        Field("agent", "Text"),
    ),
    open=False,
    system=True,
)

SESSIONS: Final = StoreDefinition(
    "sessions",
    (
        Field("user", "Text", index=True),
        Field("kind", "Text"),
        Field("expires", "Number", index=True),
        Field("prefix", "Text"),
        Field("last_used", "Number"),
        Field("address", "Text"),
        Field("agent", "Text"),
        Field("digest", "Text", hidden=True, unique=True),
    ),
    open=False,
    system=True,
)

SECOND_FACTORS: Final = StoreDefinition(
    "second_factors",
    (
        Field("user", "Text", unique=True),
        Field("confirmed", "Boolean"),
        Field("secret", "Text", hidden=True),
        Field("step", "Number", hidden=True),
        Field("codes", "JSON", hidden=True),
    ),
    open=False,
    system=True,
)
"""Second factors of users. Only an administrator can see which users have one."""

SIGNINS: Final = StoreDefinition(
    "signins",
    (
        Field("login", "Text"),
        Field("user", "Text", index=True),
        Field("address", "Text", index=True),
        Field("agent", "Text"),
        Field("result", "Text"),
    ),
    open=False,
    system=True,
)
"""Only the hub writes it. The time of a sign-in is the system field `time`."""

DEFINITIONS: Final = StoreDefinition(
    "stores",
    (
        Field("name", "Text", required=True, unique=True, search=True),
        Field("label", "Text"),
        Field("description", "Textarea"),
        Field("fields", "JSON"),
        Field("open", "Boolean"),
        Field("indexes", "JSON", filters=True),
        Field("unique", "JSON"),
        Field("search", "JSON"),
        Field("retired", "JSON"),
        Field("purpose", "Text"),
        Field("pending", "JSON"),
    ),
    open=False,
    system=True,
)

SYSTEM_STORES: Final = {
    d.name: d for d in (USERS, GROUPS, ROLES, TOKENS, SESSIONS, SECOND_FACTORS, SIGNINS, DEFINITIONS)
}
