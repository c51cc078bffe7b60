"""Checks of answers: the error envelope, and scenarios of requests with texts present and absent in their answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from stores.records import Entity
from tests.support.hub import Client, entity_of

MESSAGES: Final = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    409: "Conflict",
    410: "Gone",
    412: "Precondition Failed",
    421: "Misdirected Request",
    413: "Payload Too Large",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
    507: "Insufficient Storage",
}
TAGS: Final = {
    403: {"error_credentials", "error_forbidden"},
    410: {"error_resync_required", "error_gone"},
}


def refused(answer: httpx.Response, status: int, *names: str) -> dict[str, list[str]]:
    """Check an error answer: the status, the envelope, and an error text for each of `names`. Return its `errors`."""
    assert answer.status_code == status, f"{answer.status_code} {answer.text[:500]}"
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    body = answer.json()
    errors: dict[str, list[str]] = body.pop("errors", {})
    tags = set(body.pop("tags"))
    assert body == {"success": False, "code": str(status), "message": MESSAGES[status]}
    assert tags == TAGS.get(status, {"error_" + MESSAGES[status].lower().replace(" ", "_")})
    assert "Traceback" not in answer.text
    for name in names:
        assert name in errors, errors
    assert all(isinstance(text, str) and text for texts in errors.values() for text in texts)
    return errors


def good(answer: httpx.Response) -> Any:
    """Return the JSON of an answer, which must be a success."""
    assert answer.status_code == 200, answer.text[:500]
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


@dataclass(frozen=True)
class Scenario:
    """A request and its answer: the status, and the texts that must be `present` and `absent` in the body. ``{store}``
    and other names in braces are replaced when it is played."""

    name: str
    method: str
    path: str
    status: int
    present: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    body: Any = None
    params: list[tuple[str, str]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)


async def play(client: Client, scenario: Scenario, **names: str) -> httpx.Response:
    """Send the request of a scenario and check the answer. `names` replace the names in braces."""
    more = {} if scenario.body is None else {"json": scenario.body}
    params = [(name, filled(value, names)) for name, value in scenario.params]
    path = filled(scenario.path, names)
    answer = await client.request(scenario.method, path, params=params or None, headers=scenario.headers, **more)
    if scenario.status >= 400:
        refused(answer, scenario.status)
    assert answer.status_code == scenario.status, answer.text[:500]
    for text in scenario.present:
        assert filled(text, names) in answer.text
    for text in scenario.absent:
        assert filled(text, names) not in answer.text
    return answer


def filled(text: str, names: dict[str, str]) -> str:
    """Return the text with ``{name}`` replaced for each of the names; other braces belong to JSON and stay."""
    for name, value in names.items():
        text = text.replace("{" + name + "}", value)
    return text


async def definition_of(admin: Client, store: str) -> str:
    [definition] = await admin.list("stores", {"name": store})
    return f"/stores/{definition['_id']}"


async def every_entity_can_be_sent_back(user: Client, store: str) -> None:
    for entity in await user.list(store):
        assert entity_of(await user.patch(f"/{store}/{entity['_id']}", entity)) == entity
        again = entity_of(await user.put(f"/{store}/{entity['_id']}", entity))
        assert again == entity | {"_rev": again["_rev"], "_at": again["_at"]}


def shown(entities: list[Entity], *names: str) -> list[Entity]:
    """Return these fields of the entities, where they have them."""
    return [{name: each[name] for name in names if name in each} for each in entities]
