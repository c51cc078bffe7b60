"""Outgoing events as text. A change is encoded once for all subscribers with the same view of it.

An event is a Socket.IO packet of the default namespace (``42["change",{…}]``), the same bytes in both versions of the
protocol. The position comes last, so that the digest, which differs between views, is appended without encoding again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final

import orjson

from auth.positions import SEPARATOR, bind_to_nobody
from realtime.change_view import ViewChange, ViewDifference, changed_fields
from stores.bounds import Limit
from stores.projection import compile_projection
from stores.query import Projection
from stores.records import Change, Entity

CHANGED_BYTES: Final[Annotated[int, Limit("event", "bytes", "`changed` is absent")]] = 65_536
"""Bytes of the names of changed fields in an event. The entity and `changed` together would otherwise be larger than
clients accept."""

_END = '"}]'


def event_text(name: str, payload: dict[str, Any]) -> str:
    """Return ``42["name",{payload}]``."""
    return f'42["{name}",{orjson.dumps(payload).decode()}]'


class ChangeEncoder:
    """Encodes changes for one topic.

    It caches the text of the latest change until `drop_cached`, because several channels of a topic use it.
    """

    __slots__ = ("_change", "_heads", "topic")

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self._change: Change | None = None
        self._heads: dict[tuple[str, bool], str] = {}

    def text(self, event: ViewChange, digest: str) -> str:
        """Return the event's packet. Its position is bound to views with this digest (see `auth.positions`)."""
        if event.change is not self._change:
            self._change = event.change
            self._heads = {}
        head = self._heads.get((event.op, event.is_last))
        if head is None:
            body = orjson.dumps(change_payload(self.topic, event)).decode()
            # Without the closing quote and brace: the position comes last, and the digest is appended to it.
            head = self._heads[event.op, event.is_last] = f'42["change",{body[:-2]}{SEPARATOR}'
        return head + digest + _END

    def drop_cached(self) -> None:
        """Drop the cached change, which may be large."""
        self._change = None
        self._heads = {}


def change_payload(topic: str, event: ViewChange) -> dict[str, Any]:
    """Return the payload of a change. For a removal it says only which entity it was."""
    change = event.change
    payload: dict[str, Any] = {"channel": topic, "op": event.op, "store": change.store, "_id": change.id}
    if event.op != "remove":
        payload |= {"entity": event.entity, "_rev": event.rev, "time": change.time}
        if event.op == "update" and may_list(event.changed):
            payload["changed"] = event.changed
    payload |= commit_members(event)
    payload["position"] = change.position
    return payload


def commit_members(event: ViewChange) -> dict[str, Any]:
    """Return what an event says about its commit, if that holds several changes: its number, and whether the view shows
    no further change of it."""
    if event.change.commit is None:
        return {}
    return {"commit": event.change.commit, "last": True} if event.is_last else {"commit": event.change.commit}


def difference_encoder(
    topic: str, store: str, projection: Projection, position: str
) -> Callable[[ViewDifference], str | None]:
    """Return the function that encodes the events of a changed view; None if nothing shown differs.

    They carry the position from before the change, bound to no view. A client that is disconnected between them must
    start from a fresh list when it comes back, even if the old rule applies again.
    """
    show, bound = compile_projection(projection), {"position": bind_to_nobody(position)}

    def encode(item: ViewDifference) -> str | None:
        payload = difference_payload(topic, store, item, show)
        return None if payload is None else event_text("change", payload | bound)

    return encode


def difference_payload(
    topic: str, store: str, item: ViewDifference, show: Callable[[Entity], Entity]
) -> dict[str, Any] | None:
    """Return the payload of an event that comes from changed visibility, not from a change in the store.

    The caller adds the position. Return None for an update in which nothing shown differs.
    """
    payload: dict[str, Any] = {"channel": topic, "op": item.op, "store": store, "_id": item.id}
    if item.after is not None:
        entity = show(item.after)
        payload |= {"entity": entity, "_rev": item.after.get("_rev"), "time": item.after.get("_at")}
        if item.before is not None:
            changed = changed_fields(show(item.before), entity)
            if not changed:
                return None
            if may_list(changed):
                payload["changed"] = changed
    return payload


def may_list(changed: tuple[str, ...]) -> bool:
    """Return whether the names of the changed fields are short enough for an event, together."""
    # A character is at most 6 bytes of JSON, so the usual few names need not be encoded.
    longest = 6 * sum(map(len, changed)) + 3 * len(changed)
    return longest <= CHANGED_BYTES or len(orjson.dumps(changed)) <= CHANGED_BYTES
