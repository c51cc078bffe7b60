"""What `aggregate`, `expand` and delta sync answer, by docs/platform-api.md, implemented a second time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from stores.records import Entity
from tests.live.model_definitions import Definitions, relations
from tests.live.model_oracle import Moment

Groups = dict[Any, tuple[int, Any]]
"""The count, and the sum of a field, of each group."""


def aggregated(entities: Iterable[Entity], by: str | None, summed: str) -> Groups:
    """Return the groups of entities by a field: an entity with a list is in the group of each element."""
    groups: Groups = {} if by else {None: (0, 0)}
    for entity in entities:
        value = entity.get(by) if by else None
        for key in {*value} or {None} if isinstance(value, list) else {value}:
            count, total = groups.get(key, (0, 0))
            groups[key] = count + 1, total + (entity.get(summed) or 0)
    return groups


def groups_of(answer: Any, by: str | None, summed: str) -> Groups:
    """Return the groups of an answer."""
    groups = answer["groups"]
    found = {each["by"][by] if by else None: (each["count"], each["sum"][summed]) for each in groups}
    assert len(found) == len(groups), f"a group twice: {groups}"
    return found


def expanded(moment: Moment, token: str, definitions: Definitions, store: str, entity: Entity) -> Entity:
    """Return an entity with each reference replaced by what the holder of the token sees of its target."""
    after = dict(entity)
    for relation in relations(definitions):
        if relation.store == store and entity.get(relation.name) is not None:
            found = [_target(moment, token, relation.target, id) for id in relation.ids(entity)]
            after[relation.name] = found if relation.many else found[0]
    return after


def _target(moment: Moment, token: str, store: str, id: str) -> Entity:
    target = moment.entities[store][id]
    return target if moment.sees(token, store, target) else {"_id": id}


def referring(moment: Moment, token: str, store: str, name: str, id: str) -> list[Entity]:
    """Return what the holder sees of the entities whose field `name` refers to an entity, the newest first."""
    found = [each for each in moment.visible(token, store) if each.get(name) == id]
    return sorted(found, key=lambda each: (each["time"], each["_id"]), reverse=True)


def followed(view: dict[str, Entity], changes: Sequence[Any]) -> dict[str, Entity]:
    """Return a view after the changes of a delta. Raises AssertionError for a change that does not fit, and for events
    of one commit that are not together, or of which not exactly the last one is marked."""
    after, within, complete = dict(view), None, set[str]()
    for change in changes:
        op, id, commit = change["op"], change["_id"], change.get("commit")
        assert (id in after) is (op != "insert"), f"{op} out of place: {change}"
        assert within in (None, commit), f"within the commit {within}: {change}"
        assert commit not in complete, f"after the last of its commit: {change}"
        within = None if change.get("last") else commit
        if change.get("last"):
            complete.add(commit)
        if op == "remove":
            del after[id]
        else:
            assert after.get(id) != change["entity"], f"nothing has changed: {change}"
            after[id] = change["entity"]
    assert within is None, f"the commit {within} does not end: {changes}"
    return after


def events_expected(changes: Iterable[tuple[Entity | None, Entity | None]]) -> list[tuple[str, Entity | None]]:
    """Return the events, with their entities, of changes of one entity: what a view has shown of it before and after
    each of them, None where it was not in the view."""
    events: list[tuple[str, Entity | None]] = []
    for before, after in changes:
        if after is None:
            events += [("remove", None)] if before is not None else []
        elif after != before:
            events.append(("insert" if before is None else "update", after))
    return events
