"""The only changes that give a field a file, or take one by its id: those of uploads and of removals by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from stores.computing import Computed
from stores.errors import InvalidEntity, NotFound, Violation
from stores.field import Field
from stores.fields.media import files_of
from stores.fields.settings import most_items
from stores.records import Entity

_COMPUTING: Final = 1_000
"""Bytes that the change of a list counts for."""


@dataclass(frozen=True, slots=True)
class FileChange:
    """A `stores.computing.Compute` that adds a file to a field, or removes one: `added` is the value of the new file,
    `removed` the id of the one that goes. A field without `many` gets the new file in the place of the old one."""

    field: Field
    added: Entity | None = None
    removed: str = ""

    @property
    def size(self) -> int:
        return _COMPUTING

    @property
    def names(self) -> frozenset[str]:
        return frozenset({self.field.id})

    def __call__(self, entity: Entity) -> Computed:
        """Raises InvalidEntity for a list that is full, and NotFound for a file that the field does not have."""
        name, before = self.field.id, entity.get(self.field.id)
        if self.removed:
            return self._without(before)
        if not self.field.many:
            return Computed({name: self.added})
        if before is not None and not isinstance(before, list):
            before = [before]
        files = [*(before or ()), self.added]
        if len(files) > most_items(self.field):
            raise InvalidEntity([Violation(name, "too_many", str(most_items(self.field)))])
        return Computed({name: files})

    def _without(self, before: object) -> Computed:
        if all(file["id"] != self.removed for file in files_of(before)):
            raise NotFound(f"no file {self.removed}")
        if isinstance(before, list):
            return Computed({self.field.id: [file for file in before if file["id"] != self.removed]})
        return Computed({self.field.id: None})
