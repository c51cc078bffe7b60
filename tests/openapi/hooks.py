"""Hooks for schemathesis, for rules that OpenAPI cannot express.

These are parameters that exclude each other, values that must exist (an entity, a cursor, a login), and passwords, for
whose slow hashing a few cases are enough. Only valid cases are changed; invalid cases stay as they are.
"""

from __future__ import annotations

import itertools
import os
import re
import secrets
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Final

import httpx
import schemathesis
from hypothesis import strategies as st
from schemathesis.core.failures import Failure
from schemathesis.core.transport import Response
from schemathesis.openapi.checks import AllowHeaderMismatch, RejectedPositiveData, UnsupportedMethodResponse

from auth.system_stores import SYSTEM_STORES
from hub.dialects.platform.schemas import OPERATORS_SENT as OPERATORS
from hub.dialects.platform.system_schemas import NO_WRITES
from tests.openapi.sample_stores import ANY
from tests.support.hub import ADMIN_LOGIN, ADMIN_PASSWORD

TOKEN: Final = os.environ["OPENAPI_TEST_TOKEN"]
ADMIN: Final = {"login": ADMIN_LOGIN, "password": ADMIN_PASSWORD}
hub: Final = httpx.Client(
    base_url=os.environ["OPENAPI_TEST_URL"] + "/api/v1",
    headers={"Authorization": f"Bearer {TOKEN}"},
    trust_env=False,
    timeout=30,
)
count: Final[defaultdict[str, Iterator[int]]] = defaultdict(itertools.count)
"""Path → counter of the bodies sent to it."""

# The document describes these formats in prose only; these are strategies for them.

schemathesis.openapi.format("utc-datetime", st.datetimes().map(lambda t: t.replace(microsecond=0).isoformat(" ")))
schemathesis.openapi.format("email", st.from_regex(r"[a-z][a-z0-9]{0,8}@[A-Z]{1,9}\.example", fullmatch=True))
schemathesis.openapi.format(
    "http-url", st.from_regex(r"https?://[a-z]{1,9}\.example(:[1-9]\d)?(/[a-z?=]*)?", fullmatch=True)
)
schemathesis.openapi.format("position", st.deferred(lambda: st.just(hub.get("/notes").headers["x-position"])))
schemathesis.openapi.format("cursor", st.deferred(lambda: st.just(cursor())))
schemathesis.openapi.format("reference-path", st.sampled_from(["aReference", "anything(aReference)"]))
schemathesis.openapi.format("history-cursor", st.deferred(lambda: st.just(history_cursor())))


def cursor() -> str:
    """Return a cursor of a list in order of creation."""
    return after_of(hub.get("/stores", params={"limit": 1}))


def history_cursor() -> str:
    """Return a cursor of any history, because a cursor is a place in the history of all entities."""
    path = f"/{ANY}/{made(ANY)}"
    hub.patch(path, json={"changed": True}).raise_for_status()
    return after_of(hub.get(path + "/history", params={"limit": 1}))


def after_of(page: httpx.Response) -> str:
    return str(page.links["next"]["url"].rpartition("after=")[2])


@schemathesis.hook
def before_load_schema(context: Any, raw_schema: dict[str, Any]) -> None:
    """Reduce the hundreds of time zones to three, and let one store, without its own paths, represent all stores."""
    components = raw_schema["components"]
    del components["schemas"]["Timezone"]["enum"][3:]
    components["parameters"]["store"]["schema"]["enum"] = [ANY]
    for path in [path for path in raw_schema["paths"] if path.split("/")[3] == ANY]:
        del raw_schema["paths"][path]


@schemathesis.auth(refresh_interval=None)
class Credentials:
    """The control token of the hub, which cannot be revoked; each sign-out uses a separate token."""

    def get(self, case: Any, context: Any) -> str:
        return TOKEN

    def set(self, case: Any, token: str, context: Any) -> None:
        if case.method == "DELETE" and case.path == "/api/v1/auth":
            token = str(hub.post("/auth/token", json=ADMIN).json()["token"])
        case.headers["Authorization"] = f"Bearer {token}"


# Change valid cases so that they can succeed.

EXCLUDED: Final = {
    "from": ("begin",),
    "to": ("end",),
    "aggregate": ("offset", "after", "since", "only", "meta", "expand", "sort"),  # `sort` takes what `aggregate` has
    "meta": ("offset", "limit", "sort", "after", "since", "expand"),
    "since": ("offset", "after", "sort", "expand"),
    "all": ("from", "to", "begin", "end", "filter", "search"),
    "after": ("sort",),
}
"""Parameter → parameters that cannot be combined with it."""

UNIQUE: Final = {"users": ("login",), "roles": ("name",), "products": ("sku",)}
"""Store → unique fields, in which short generated values would soon conflict."""

ETAGS: Final = itertools.cycle(("*", '"1"', '"1", "2"'))
"""Preconditions that hold for some entities; generated ones hold for none."""

FAR_OFF: Final = 2**52
PASSWORDS_EVERY: Final = 50


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    for name, others in EXCLUDED.items():
        if case.query and case.query.get(name) not in (None, False, "false"):
            for other in others:
                case.query.pop(other, None)
    if case.query and not case.query.get("aggregate"):
        case.query.pop("by", None)  # without `aggregate` it is a filter
    if case.method in ("PATCH", "DELETE") and case.path.count("/") == 3 and "auth" not in case.path and not case.query:
        case.query["all"] = "true"  # a bulk change needs a condition or `all`
    for name in ("If-Match", "If-None-Match"):
        if name in (case.headers or {}):
            case.headers[name] = next(ETAGS)
    if "id" in (case.path_parameters or {}):
        case.path_parameters["id"] = entity_of(store_of(case))
    for body in case.body if isinstance(case.body, list) else [case.body]:
        if isinstance(body, dict):
            mend(body, case.path)


def mend(body: dict[str, Any], path: str) -> None:
    body.pop("_id", None)
    for name in OPERATORS:  # whether they fit depends on the entity
        body.pop(name, None)
    for name in UNIQUE.get(path.split("/")[3], ()):
        if isinstance(body.get(name), str):
            body[name] = (body[name] + secrets.token_hex(6))[-40:]
    if path.startswith(("/api/v1/tokens", "/api/v1/keys")) and body.get("expires") is not None:
        body["expires"] = FAR_OFF
    if path == "/api/v1/stores/{id}":
        body.pop("data", None)  # whether it fits depends on the definition
    if path == "/api/v1/stores/{id}" and "name" in body:
        body["name"] = names["stores"]
    number = next(count[path])
    if path.startswith("/api/v1/users") and number % PASSWORDS_EVERY:
        body.pop("password", None)
    if path.startswith("/api/v1/auth") and number % 2 == 0:
        body.update(ADMIN)


def store_of(case: Any) -> str:
    name = case.path.split("/")[3]
    return ANY if name == "{store}" else str(name)


known: Final[dict[str, str]] = {}
names: Final[dict[str, str]] = {}
"""Store → id of an entity in it (`known`) and that entity's name (`names`)."""


def entity_of(store: str) -> str:
    """Return the id of an existing entity, and create one if the last was deleted."""
    if store not in known:
        known[store] = made(store)
    return known[store]


def made(store: str) -> str:
    if store == "sessions":
        hub.post("/auth/token", json=ADMIN).raise_for_status()
        return str(hub.get("/sessions", params={"sort": "-time", "limit": 1}).json()[0]["_id"])
    if store == "signins":
        return str(hub.get("/signins", params={"sort": "-time", "limit": 1}).json()[0]["_id"])
    if store in NO_WRITES:
        return "0" * 24
    name = names[store] = f"made-{secrets.token_hex(6)}"
    bodies = {
        "users": {"login": name},
        "roles": {"name": name, "scopes": []},
        "keys": {"name": name, "kind": "listings"},
    }
    body = bodies.get(store, {"name": name})
    answer = hub.post(f"/{store}", json={} if store in (ANY, "notes", "mixed") else body).raise_for_status()
    return str(answer.json()["_id"])


@schemathesis.hook
def after_call(context: Any, case: Any, response: Response) -> None:
    gone = response.status_code == 404 or (case.method == "DELETE" and response.status_code == 200)
    if gone:
        known.pop(store_of(case), None)


# Expected refusals.

RULES: Final = re.compile(
    "|".join(
        (
            r".*mean the same: send one",
            r".*cannot be used together",
            r"expand: .* (has no reference|no reference to) ",
            r"only: .* is not expanded",
            r"[^(]*\([\s\S]*: .* has no field ",  # what refers here, in `only` without `expand`
            r"(indexes|unique|search)\.[^:]*: .* has no field ",  # of a closed store
            r".*: .* is a Reference, and a path does not reach into ",  # in `only` without `expand`, and in $elemMatch
            r".*: .* (has no fields, because its type is |is a system field and has no fields)",  # in $elemMatch
            r"(sort|by|aggregate): .*(is named twice|two different arrays|position of an array)",
            r"by: .*is not an IANA time zone",
            r"(count|(sum|avg|min|max):.*): .* has no field",  # an order of groups without `aggregate`
            r"after: this cursor (belongs to another sort|does not belong to this history)",
            r"filter: a bulk change needs a condition",
            r".*\[nin\]: ",
            r"all: all=true means",
            r"search: .* has no searchable fields",
            r"upsert: .* is not a unique field",
            r"[^:]*: There is no (user|group|role) ",
            r"expires: Must be (a time to come|Unix milliseconds)",
            r"login: Must (not begin|consist of|have)",
            r"password: (Must (not be empty|be at (least|most)|differ)|Is one of)",
            r"current_password: ",
            r"code: This is not a code that is valid now",
            r"[^:]*: This field is assigned by the hub",
            r"default: ",
            r"(fields\.\d+\.)+(default|unique|search|hidden|length|options(\.\d+)?|id|min|max|many|max_items|distinct|fields)"
            r"(\.[^:]*)?: ",
            r"name: A store cannot be renamed",
            r"[^:]*: Only name, (scopes and expires|scope, allowed_origins, expires and active)",
            r"code: This is not a code that is valid now",
            r"Idempotency-Key: A secret is not kept",
            r"[^:]*: Integers must fit in 64 bits",
            r"[^:]*: Must be a whole number",
            r"([^:]*\.)?aSerial: Must be at (least|most) ",  # with keep
            r"limit \(kg\): Must be at least ",  # a Numeric as text
            r"[^:]*: Must be a decimal",
            r"[^:]*: Must be a real UTC time",
            r"[^:]*: There is no such entity of ",
            r"[^:]*: Must be a string, as ",  # a reference by a text
            r"[^:]*: A unique field takes a string, a number or null",
            r"indexes\.\d+\.[^:]*: (This path is named twice|Must not be|More than \d+ conditions)",
        )
    )
)
"""Errors, as ``field: text``, with which the hub may refuse input that the schema allows."""


@schemathesis.hook
def filter_failure(context: Any, failure: Failure, case: Any, response: Response) -> bool:
    """Return whether it is a real failure, not a refusal by a rule that the document cannot express."""
    if isinstance(failure, AllowHeaderMismatch | UnsupportedMethodResponse):
        # Calls that a system store always refuses are not in the document, but have routes.
        return store_of(case) not in SYSTEM_STORES
    if isinstance(failure, RejectedPositiveData) and response.status_code == 400:
        errors = response.json().get("errors", {})
        texts = [f"{field}: {text}" for field, texts in errors.items() for text in texts]
        return not texts or not all(map(RULES.match, texts))
    return True
