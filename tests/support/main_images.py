"""Which images of a listing there are, and which is the main one, after each commit that live events tell of."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from stores.records import Entity
from tests.support.live import Event


def states(images: list[Entity], events: list[Event]) -> Iterator[dict[str, bool]]:
    """Yield for each commit which images there are after it, and which of them is the main one, as its events tell.
    `images`: those before."""
    state = {image["_id"]: image["is_main"] for image in images}
    for _, commit in groupby(events, lambda event: event.get("commit", event["position"])):
        changes = list(commit)
        assert "commit" not in changes[-1] or changes[-1]["last"]
        for event in changes:
            if event["op"] == "remove":
                del state[event["_id"]]
            else:
                state[event["_id"]] = event["entity"]["is_main"]
        yield dict(state)


def check_states(images: list[Entity], events: list[Event]) -> None:
    """Check that a listing has exactly one main image after each commit, unless it has no images then."""
    for state in states(images, events):
        assert [*state.values()].count(True) == (1 if state else 0), state
