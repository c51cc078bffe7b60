"""What a caller sends back as it got it is taken, even if the store would not take it anew: an entity may be older than
its store's definition, or another program's."""

from __future__ import annotations

from collections.abc import Sequence

from auth.view import View
from stores.errors import Violation
from stores.records import Entity, same


def without_unchanged(view: View, violations: Sequence[Violation], body: Entity, before: Entity) -> list[Violation]:
    """The violations but those of shown fields that are sent, or left out, as they are."""
    return [v for v in violations if not _is_unchanged(view, v, body, before)]


def field_of(violation: Violation, body: Entity) -> str:
    """The top-level field that is at fault; the name of one may, wrongly, hold a dot."""
    return violation.field if violation.field in body else violation.field.split(".", 1)[0]


def _is_unchanged(view: View, violation: Violation, body: Entity, before: Entity) -> bool:
    name = field_of(violation, body)
    if not view.shows(name):
        return False
    if name not in body:
        return violation.rule == "required" and name not in before
    return name in before and same(body[name], before[name])
