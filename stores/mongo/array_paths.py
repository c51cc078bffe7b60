"""The paths of lists that an index refuses together: the server names their last segments only."""

from __future__ import annotations

from contextlib import AbstractContextManager

from stores.compound import named_by
from stores.errors import ParallelArrays
from stores.protocol import Definitions
from stores.superseded import each_of


def naming_paths(definition: Definitions, store: str | None = None) -> AbstractContextManager[None]:
    """Raise ParallelArrays with the paths of the index instead of segments. `definition` is that on which the commit
    relies; with `store`, the write concerns this one of its stores."""
    return _Naming(definition, store)


class _Naming:
    """The context of `naming_paths`, which every commit enters: one made of a generator costs three times as much."""

    def __init__(self, definition: Definitions, store: str | None) -> None:
        self._definition = definition
        self._store = store

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, ParallelArrays):
            return
        concerned = [each for each in each_of(self._definition) if self._store in (None, each.name)]
        compounds = [compound for each in concerned for compound in each.compounds]
        raise ParallelArrays(*named_by(compounds, error.later, error.earlier), error.index) from error
