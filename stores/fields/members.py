"""The check of named values by the checks of their fields: of entities, and of objects inside entities."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from stores.errors import Violation
from stores.fields.base import Checker, Rejected
from stores.limits import MOST_VIOLATIONS
from stores.records import Json


def check_members(
    values: Mapping[str, Any], checkers: Mapping[str, Checker], is_unknown: Callable[[str], bool]
) -> tuple[dict[str, Json], list[Violation]]:
    """Check each value. Return all in canonical form, except those that their types reject, and at least the first
    MOST_VIOLATIONS violations. `is_unknown` decides about names without a field; null clears any field."""
    checked: dict[str, Json] = {}
    violations: list[Violation] = []
    for name, value in values.items():
        check = checkers.get(name)
        if check is None:
            checked[name] = value
            if len(violations) < MOST_VIOLATIONS and is_unknown(name):
                violations.append(Violation(name, "unknown"))
        elif value is None:
            checked[name] = None
        else:
            try:
                checked[name] = check(value)
            except Rejected as refusal:
                if len(violations) < MOST_VIOLATIONS:
                    violations += refusal.at(name)
    return checked, violations


def missing(required: Iterable[str], values: Mapping[str, Any]) -> list[Violation]:
    """Return a violation for each required name without a value: null and the empty text are none."""
    return [Violation(name, "required") for name in required if values.get(name) in (None, "")]
