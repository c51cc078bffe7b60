"""Distributes tests among processes: those of one file and one engine run in the same process, which starts the hub and
the servers of a file once. A test that is divided into parts has a process for each part.

pytest-xdist has this as `--dist loadgroup`, which names groups in the ids of tests; since pytest 9.2 it cannot. With
larger groups the last one would run alone for minutes.
"""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

from tests.support.engines import KINDS


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc]
    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def group_of(nodeid: str) -> str:
    """Return the file and the engine of a test, such as ``tests/live/test_model.py sqlite``."""
    file, _, test = nodeid.partition("::")
    parameters = test.partition("[")[2].removesuffix("]").split("-")
    kinds = [kind for kind in KINDS if kind in parameters]
    parts = [parameter for parameter in parameters if parameter.startswith("part")]
    return " ".join([file, *kinds, *parts])
