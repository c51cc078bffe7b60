"""What a client shows that applies the changes of a commit together, so that it never shows half of a batch or of a
deletion with its consequences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from stores.records import Entity
from tests.support.live import Event


class Shown:
    """A view that takes each commit as a whole, once its last event has arrived; an interruption in between changes
    nothing. Families (`writers.Families`) are whole in it at any moment: a parent has as many children as it counts,
    and no child is without its parent."""

    def __init__(self, view: Mapping[str, Entity]) -> None:
        self.view: dict[str, Entity] = {}
        self._children: Counter[str] = Counter()
        self._waiting: list[Event] = []
        self._apply({"_id": id, "entity": entity} for id, entity in view.items())

    def take(self, event: Event) -> None:
        """Take the next event. Raises AssertionError if the commit before it has not ended, or if it ends a commit that
        leaves half of a family."""
        commit = event.get("commit")
        assert not self._waiting or commit == self._waiting[0]["commit"], f"{self._waiting} has no end before {event}"
        self._waiting.append(event)
        if commit is None or event.get("last"):
            self._apply(self._waiting)
            self._waiting = []

    def _apply(self, events: Iterable[Event]) -> None:
        concerned: set[str] = set()
        for event in events:
            concerned |= self._replace(event["_id"], event.get("entity"))
        for id in concerned:
            counted = self.view.get(id, {}).get("children") or 0
            assert self._children[id] == counted, f"{id} has {self._children[id]} of {counted} children"

    def _replace(self, id: str, entity: Entity | None) -> set[str]:
        """Put an entity in the place of the former one; return the ids of those whose families that concerns."""
        concerned = {id}
        for each, number in ((self.view.pop(id, None), -1), (entity, +1)):
            parent = (each or {}).get("parent")
            if parent is not None:
                self._children[parent] += number
                concerned.add(parent)
        if entity is not None:
            self.view[id] = entity
        return concerned
