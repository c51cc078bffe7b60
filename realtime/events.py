"""The events that go out, as text: a change is encoded once for all who see it alike.

An event is a Socket.IO packet of the default namespace (``42["change",{…}]``), the same bytes in both versions of
the protocol. The position comes last, so that what differs between audiences is put on without encoding again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from auth.positions import SEPARATOR
from realtime.view import ViewChange, ViewDifference, changed_fields
from stores.records import Change, Entity

_END = '"}]'


def event_text(name: str, payload: dict[str, Any]) -> str:
    """``42["name",{payload}]``"""
    return f'42["{name}",{orjson.dumps(payload).decode()}]'


class ChangeEncoder:
    """Encodes changes for one topic. What it made of the latest is kept until `rest`: several channels of a topic ask
    for it."""

    __slots__ = ("_change", "_heads", "topic")

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self._change: Change | None = None
        self._heads: dict[str, str] = {}

    def text(self, event: ViewChange, digest: str) -> str:
        """The event's packet, with a position for those whose view has this digest (see `auth.positions`)."""
        if event.change is not self._change:
            self._change = event.change
            self._heads = {}
        head = self._heads.get(event.op)
        if head is None:
            body = orjson.dumps(change_payload(self.topic, event)).decode()
            # Without the closing quote and brace: the position comes last, and goes on with the digest.
            head = self._heads[event.op] = f'42["change",{body[:-2]}{SEPARATOR}'
        return head + digest + _END

    def rest(self) -> None:
        """Let go of the latest change, which may be large."""
        self._change = None
        self._heads = {}


def change_payload(topic: str, event: ViewChange) -> dict[str, Any]:
    """What subscribers get. A removal says no more than which entity it was."""
    change = event.change
    payload: dict[str, Any] = {"channel": topic, "op": event.op, "store": change.store, "_id": change.id}
    if event.op != "remove":
        payload |= {"entity": event.entity, "_rev": event.rev, "time": change.time}
        if event.op == "update":
            payload["changed"] = event.changed
    payload["position"] = change.position
    return payload


def difference_payload(
    topic: str, store: str, item: ViewDifference, show: Callable[[Entity], Entity]
) -> dict[str, Any] | None:
    """An event of changed visibility, not of a change in the store; the position is the caller's to add. None for
    an update of nothing that is shown."""
    payload: dict[str, Any] = {"channel": topic, "op": item.op, "store": store, "_id": item.id}
    if item.after is not None:
        entity = show(item.after)
        payload |= {"entity": entity, "_rev": item.after.get("_rev"), "time": item.after.get("_at")}
        if item.before is not None:
            payload["changed"] = changed_fields(show(item.before), entity)
            return payload if payload["changed"] else None
    return payload
