"""Strict parsing of `data`, what a change of a definition does with the values of its entities."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final

from stores.bounds import Limit
from stores.data_changes import NOTHING_TO_DO, DataOperations
from stores.definition_reader import DefinitionReader
from stores.errors import InvalidEntity, Violation
from stores.field import ASSIGNED
from stores.field_definitions import MAX_FIELDS, is_field_name
from stores.schema import StoreDefinition

MEMBER: Final = "data"
"""The member of the body of a change that holds the operations."""

_LISTS: Final = ("drop", "fill", "convert")
STEPS: Final = "steps"
"""The member of `data` with which a change is only begun, to be continued in steps."""
CONTINUE: Final = "continue"
"""The only member of `data` that continues a change in steps: the maximum number of entities of the next step."""
LARGEST_STEP: Final[Annotated[int, Limit("step of a change of data", "entities", "400")]] = 1_000


def parse_data(document: Any, old: StoreDefinition, new: StoreDefinition) -> DataOperations:
    """Return the operations in the `data` of a change from `old` to `new`; none for null. Raises InvalidEntity with the
    locations of all violations (``data.rename.margin``)."""
    if document is None:
        return NOTHING_TO_DO
    reader = _DataReader(old, new)
    operations = reader.read(document)
    if reader.refusals:
        raise InvalidEntity(reader.violations)
    return operations


def is_in_steps(document: Any) -> bool:
    """Return whether a change is to be made in steps."""
    return isinstance(document, dict) and document.get(STEPS) is True


def step_size(document: Any) -> int | None:
    """Return the size of the step that `data` asks for; None if it asks for something else. Raises InvalidEntity."""
    if not isinstance(document, dict) or CONTINUE not in document:
        return None
    size = document[CONTINUE]
    if not isinstance(size, int) or isinstance(size, bool) or not 0 < size <= LARGEST_STEP or len(document) > 1:
        text = f"Must be the number of entities of a step, from 1 to {LARGEST_STEP}, and nothing beside it."
        raise InvalidEntity([Violation(f"{MEMBER}.{CONTINUE}", "invalid", text)]).at("LARGEST_STEP")
    return size


class _DataReader(DefinitionReader):
    def __init__(self, old: StoreDefinition, new: StoreDefinition) -> None:
        super().__init__()
        self._old = old
        self._new = new
        self._named: set[str] = set()

    def read(self, document: Any) -> DataOperations:
        if not isinstance(document, dict):
            self.refuse(MEMBER, "Must be an object.")
            return NOTHING_TO_DO
        for name in sorted(document.keys() - {"rename", STEPS, *_LISTS}):
            self.refuse(f"{MEMBER}.{name}", "There is no such operation: rename, drop, fill and convert are.")
        self.of_type(document, STEPS, bool, False, f"{MEMBER}.")
        rename = document.get("rename")
        if not isinstance(rename, dict | None):
            self.refuse(f"{MEMBER}.rename", "Must be an object of former and new names.")
            rename = None
        rename = rename or {}
        lists = {name: self.of_type(document, name, list, [], f"{MEMBER}.") for name in _LISTS}
        if len(rename) + sum(map(len, lists.values())) > MAX_FIELDS:
            self.refuse(MEMBER, f"At most {MAX_FIELDS} fields.")
            return NOTHING_TO_DO
        return DataOperations(
            {source: target for source, target in rename.items() if self._may_rename(source, target)},
            tuple(name for name, location in _placed(lists, "drop") if self._may_drop(name, location)),
            tuple(name for name, location in _placed(lists, "fill") if self._may_fill(name, location)),
            tuple(name for name, location in _placed(lists, "convert") if self._may_convert(name, location)),
        )

    def _may_rename(self, source: str, target: Any) -> bool:
        location = f"{MEMBER}.rename.{source}"
        if not (self._is_new_name(source, location) and self._is_new_name(target, location)):
            return False
        if not self._is_leaving(source, location):
            return False
        if target in self._old.by_id:
            return self._refused(location, f"There is a field {target} already.")
        if not self._will_have(target):
            return self._refused(location, f"The new definition has no field {target}.")
        if source in self._old.hidden and target not in self._new.hidden_fields:
            return self._refused(location, f"{source} is hidden: {target} must be hidden, too.")
        if named := next((at for at, path in self._new.named_paths if path.partition(".")[0] == source), None):
            return self._refused(location, f"The new definition still names {source}: {named}.")
        was = self._old.by_id[source].type if source in self._old.by_id else ""
        now = self._new.by_id[target].type if target in self._new.by_id else ""
        if now in ASSIGNED and was != now:
            return self._refused(location, f"{target} is a {now}: rename the field first, then change its type.")
        return True

    def _may_drop(self, name: Any, location: str) -> bool:
        return self._is_new_name(name, location) and self._is_leaving(name, location)

    def _may_fill(self, name: Any, location: str) -> bool:
        if not self._is_new_name(name, location):
            return False
        field = self._new.by_id.get(name)
        if field is None:
            return self._refused(location, f"The new definition has no field {name}.")
        if field.type not in ASSIGNED and field.default is None:
            return self._refused(location, f"{name} has no default to fill it with.")
        return True

    def _may_convert(self, name: Any, location: str) -> bool:
        if not self._is_new_name(name, location):
            return False
        if name not in self._new.by_id:
            return self._refused(location, f"The new definition has no field {name}.")
        return self._has(name) or self._refused(location, f"The store has no field {name} yet.")

    def _is_leaving(self, name: str, location: str) -> bool:
        """Refuse to move or remove the values of a field that is not there, or that stays."""
        if name in self._new.by_id:
            return self._refused(location, f"The new definition keeps the field {name}.")
        return self._has(name) or self._refused(location, f"The store has no field {name}.")

    def _has(self, name: str) -> bool:
        return name in self._old.by_id or self._old.open

    def _will_have(self, name: str) -> bool:
        return name in self._new.by_id or (self._new.open and name not in self._new.hidden)

    def _is_new_name(self, name: Any, location: str) -> bool:
        """Return whether a value is the name of a field that may be changed, and no other operation names it."""
        if not (isinstance(name, str) and is_field_name(name)):
            return self._refused(location, "Must be the name of a field that is not reserved.")
        if name in self._named:
            return self._refused(location, f"{name} is named twice.")
        self._named.add(name)
        return True

    def _refused(self, location: str, text: str) -> bool:
        self.refuse(location, text)
        return False


def _placed(lists: Mapping[str, list[Any]], operation: str) -> Iterator[tuple[Any, str]]:
    """Yield the names in a list, with their locations."""
    return ((name, f"{MEMBER}.{operation}.{i}") for i, name in enumerate(lists[operation]))
