"""Reading of members of a definition document: their JSON types, and the violations that are found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from stores.errors import Violation
from stores.limits import MOST_VIOLATIONS

_KINDS: Final[Mapping[type, str]] = {
    str: "a string",
    bool: "true or false",
    int: "a whole number",
    list: "a list",
}


@dataclass
class DefinitionReader:
    """A reader of one definition document, which collects the first MOST_VIOLATIONS violations, and counts all."""

    violations: list[Violation] = field(default_factory=list)
    refusals: int = 0

    def refuse(self, location: str, detail: str, rule: str = "invalid") -> None:
        self.refusals += 1
        if self.refusals <= MOST_VIOLATIONS:
            self.violations.append(Violation(location, rule, detail))

    def of_type(self, document: Mapping[str, Any], name: str, kind: type, default: Any, prefix: str = "") -> Any:
        """Return a member of the document, or the default without it and for a value of another type, which is
        refused: its location is `prefix` and the name."""
        value = document.get(name)
        if value is None:
            return default
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self.refuse(f"{prefix}{name}", f"Must be {_KINDS[kind]}.")
            return default
        return value
