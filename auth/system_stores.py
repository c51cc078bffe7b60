"""The system stores, which always exist: users and their rights, credentials, and the definitions of stores."""

from __future__ import annotations

from typing import Annotated, Final

from stores.bounds import Limit
from stores.field import Field
from stores.schema import StoreDefinition

ADMIN_ROLE: Final = "admin"

FREE_TIER: Final = "free"
"""The subscription tier of a new user."""

MOST_KEY_ORIGINS: Final[Annotated[int, Limit("key", "hostnames in `allowed_origins`", "400")]] = 100

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
        Field("number", "Serial"),
        Field("subscription_tier", "Text", default=FREE_TIER),
    ),
    open=False,
    indexes=("roles",),
    system=True,
)
"""`login_key` is the form of a login that is compared, without case. The group of a user is the system field `group` of
its own entity. That field is writable only in this store. `number` identifies the user in APIs that have numbers for
ids."""

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

KEYS: Final = StoreDefinition(
    "keys",
    (
        Field("name", "Text", required=True, search=True),
        Field("kind", "Select", required=True, index=True, options=(("listings", "Listings API"),)),
        Field("scope", "Select", required=True, options=(("R", "Read"), ("RW", "Read and write")), default="R"),
        Field("user", "Text", index=True),
        Field("allowed_origins", "Text", many=True, max_items=MOST_KEY_ORIGINS),
        Field("expires", "JSON"),
        Field("active", "Boolean", required=True, default=True),
        Field("prefix", "Text"),
        Field("digest", "Text", hidden=True, unique=True),
        Field("last_used", "Number"),
    ),
    open=False,
    system=True,
)
"""Keys open one API each, that of their `kind`; the platform API and the live endpoint take none."""

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
    d.name: d for d in (USERS, GROUPS, ROLES, TOKENS, KEYS, SESSIONS, SECOND_FACTORS, SIGNINS, DEFINITIONS)
}
