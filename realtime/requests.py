"""Requests of clients, parsed and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from auth.view import View
from realtime.errors import BadRequest
from stores.bounds import Limit
from stores.parse import FilterLimits, parse_filter, parse_only
from stores.query import EVERYTHING, Filter, Projection

_MEMBERS = frozenset({"store", "filter", "only", "since", "snapshot", "id"})
LONGEST_ID: Annotated[int, Limit("subscription", "characters", "400")] = 100


@dataclass(frozen=True, slots=True)
class SubscribeRequest:
    """``subscribe {store, filter?, only?, since?, snapshot?, id?}``; `snapshot` is true, false or "auto". A member that
    is null counts as left out: clients send their position so before they have one."""

    store: str
    filter: Any
    only: str | None
    since: str | None
    snapshot: bool | str
    id: str | None

    @classmethod
    def parse(cls, payload: Mapping[str, Any]) -> SubscribeRequest:
        """Return the request in a payload. Raises BadRequest, which names the member at fault."""
        for name in payload:
            if name == "expand":
                raise BadRequest(name, "a subscription does not expand: subscribe to the other store too")
            if name not in _MEMBERS:
                raise BadRequest(name, f"subscribe takes {', '.join(sorted(_MEMBERS))}")
        store, since, snapshot = payload.get("store"), payload.get("since"), payload.get("snapshot")
        if not isinstance(store, str):
            raise BadRequest("store", "must be the name of a store")
        if since is not None and not isinstance(since, str):
            raise BadRequest("since", "must be a position")
        if snapshot is None:
            snapshot = False
        if not isinstance(snapshot, bool) and snapshot != "auto":
            raise BadRequest("snapshot", 'must be true, false or "auto"')
        id = payload.get("id")
        if id is not None and not (isinstance(id, str) and 0 < len(id) <= LONGEST_ID):
            raise BadRequest("id", f"must be a string of 1 to {LONGEST_ID} characters")
        return cls(store, payload.get("filter"), _only(payload.get("only")), since, snapshot, id)

    def query(self, view: View, limits: FilterLimits) -> tuple[Filter, Projection]:
        """Return the filter and projection, checked against what the client may see. Raises InvalidQuery."""
        check = view.check_path
        filter = EVERYTHING if self.filter is None else parse_filter(self.filter, check, limits, view.field_at)
        only = None if self.only is None else parse_only(self.only, check)
        return filter, view.shown(Projection(only))


def _only(value: Any) -> str | None:
    """Return field paths, given as in REST or as a list, separated by commas."""
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return ",".join(value)
    if value is None or isinstance(value, str):
        return value
    raise BadRequest("only", "must be field paths, as a list or separated by commas")
