"""The paths of lists that an index refuses together: the server names their last segments only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from stores.compound import named_by
from stores.errors import ParallelArrays
from stores.protocol import Definitions
from stores.superseded import each_of


@contextmanager
def naming_paths(definition: Definitions, store: str | None = None) -> Iterator[None]:
    """Raise ParallelArrays with the paths of the index instead of segments. `definition` is that on which the commit
    relies; with `store`, the write concerns this one of its stores."""
    try:
        yield
    except ParallelArrays as error:
        concerned = [each for each in each_of(definition) if store in (None, each.name)]
        compounds = [compound for each in concerned for compound in each.compounds]
        raise ParallelArrays(*named_by(compounds, error.later, error.earlier), error.index) from error
