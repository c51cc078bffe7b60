"""Refusals of what goes with a write, as errors of that write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from stores.errors import DataConflict, DuplicateValue, InvalidQuery, RefusedEntity, TooManyConsequences
from stores.protocol import MOST_BULK_BYTES


@contextmanager
def bounded(field: str = "_id") -> Iterator[None]:
    """Raise TooManyConsequences for consequences of too many bytes: no filter of the caller names them. `field` is the
    part of the request to which they are due."""
    try:
        yield
    except InvalidQuery as error:
        if error.limit_name != "MOST_BULK_BYTES":
            raise
        raise TooManyConsequences(f"{MOST_BULK_BYTES >> 20} MiB", field).at(error.limit_name) from error


@contextmanager
def clearing(store: str) -> Iterator[None]:
    """Raise DataConflict when an index refuses entities of `store` without their references. Its fields are not
    those of the deleted entity, and may be out of the caller's sight."""
    try:
        yield
    except (DuplicateValue, RefusedEntity) as error:
        text = f"Entities of {store} cannot lose their reference to it: an index of {store} refuses them without it."
        raise DataConflict({"_id": text}) from error
