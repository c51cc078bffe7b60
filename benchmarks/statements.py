"""The database's own statement for a sum by group, beside which the hub's is measured."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, Final

import apsw
import pymongo

from benchmarks.beside import Cost
from benchmarks.data import READINGS
from benchmarks.processes import Hub, cpu_seconds
from stores.sqlite.connection import CACHE_KIB
from stores.sqlite.tables import extract, table_name

GROUP, VALUE = "place.floor", "value"
SUMS: Final = f"{READINGS}?aggregate=count,sum:{VALUE}&by={GROUP}"
"""The path of the hub's sum by group."""

Groups = dict[Any, tuple[int, float]]
"""The number of entities and the sum of their values, by group."""


@contextmanager
def group_sums(hub: Hub) -> Iterator[Callable[[], Groups]]:
    """Yield a function that lets the hub's database make the same sums, of all entities."""
    if hub.engine == "sqlite":
        with closing(apsw.Connection(hub.database, flags=apsw.SQLITE_OPEN_READONLY)) as connection:
            connection.pragma("cache_size", -CACHE_KIB)  # as much as a reader of the hub has
            yield lambda: _by_sqlite(connection)
    else:
        with pymongo.MongoClient[dict[str, Any]](hub.database) as client:
            yield lambda: _by_mongodb(client)


def _by_sqlite(connection: apsw.Connection) -> Groups:
    sql = f"SELECT {extract(GROUP)},count(*),sum({extract(VALUE)}) FROM {table_name(READINGS)} GROUP BY 1"
    return {group: (count, total) for group, count, total in connection.execute(sql)}


def _by_mongodb(client: pymongo.MongoClient[dict[str, Any]]) -> Groups:
    group = {"_id": f"${GROUP}", "count": {"$sum": 1}, "sum": {"$sum": f"${VALUE}"}}
    found = client.get_default_database()[READINGS].aggregate([{"$group": group}])
    return {each["_id"]: (each["count"], each["sum"]) for each in found}


def cost_of(run: Callable[[], object], database_pid: int | None, seconds: float) -> Cost:
    """Run a statement for so many seconds, once at least. CPU is that of this thread and of MongoDB."""
    taken: list[float] = []
    begun = _cpu(database_pid)
    ends = time.perf_counter() + seconds
    while not taken or time.perf_counter() < ends:
        at = time.perf_counter()
        run()
        taken.append(time.perf_counter() - at)
    return Cost(statistics.median(taken) * 1e3, (_cpu(database_pid) - begun) / len(taken) * 1e6)


def _cpu(database_pid: int | None) -> float:
    return time.thread_time() + (cpu_seconds(database_pid) or 0.0)
