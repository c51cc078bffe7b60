"""What the listings API requires of its stores: the fields that it reads and writes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from hub.services.listings.stores import NAMES, ListingsStores, definitions_of
from stores.definitions import parse_definition
from stores.errors import InvalidEntity, Violation
from stores.field import Field
from stores.schema import StoreDefinition


def names_with(prefix: str, stores: Mapping[str, StoreDefinition]) -> dict[str, str]:
    """Return the names of all stores by their purposes: those that they have, otherwise the usual ones with the
    prefix."""
    return {p: stores[p].name if p in stores else f"{prefix}{name}" for p, name in NAMES.items()}


def lacking(found: StoreDefinition, wanted: StoreDefinition) -> list[str]:
    """Return the fields of `wanted` that the store `found` lacks, or has otherwise."""
    return [each.id for each in wanted.fields if not _serves(found, each)]


def _serves(found: StoreDefinition, wanted: Field) -> bool:
    field = found.by_id.get(wanted.id)
    if field is None or (field.type, field.many, field.store) != (wanted.type, wanted.many, wanted.store):
        return False
    if wanted.store and (field.on_delete != wanted.on_delete or field.required < wanted.required):
        return False  # the rules rely on it
    is_key = not wanted.unique or wanted.id in found.unique_paths
    return is_key and (field.by or "_id") == (wanted.by or "_id") and wanted.option_ids <= field.option_ids


def check_purpose(definitions: Iterable[StoreDefinition], old: StoreDefinition, new: StoreDefinition) -> None:
    """Raise InvalidEntity for a change that takes fields from a store that the listings API needs. `definitions` are
    those of all stores."""
    if old.purpose not in NAMES:
        return
    names = names_with("", ListingsStores.among(definitions).by_purpose)
    wanted = parse_definition(definitions_of(names)[old.purpose])
    lost = [name for name in lacking(new, wanted) if name not in lacking(old, wanted)]
    if lost:
        raise InvalidEntity([*_violations(lost)])


def _violations(lost: Iterable[str]) -> Iterator[Violation]:
    for name in lost:
        yield Violation("fields", "invalid", f"The listings API needs the field {name} as it is.")
