"""Looks up entities that are referred to: by one of their unique fields, to read the value of another.

The values of many references are looked up together, in as few queries as addresses may be long.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from hub.cli.cells import Absent, pick
from hub.cli.client import Client, Refused, path_of
from hub.cli.output import Failure
from hub.cli.upload import repeated
from stores.records import Json

LONGEST_QUERY: Final = 6_000
"""Bytes of the values in one query. A proxy may refuse addresses of more than 8 KiB."""
MOST_AT_ONCE: Final = 1_000
MOST_REMEMBERED: Final = 100_000
"""Values that are not looked up again in later batches."""


@dataclass(frozen=True, slots=True)
class Key:
    """Entities of `store` are looked up by `path`, to read their values at `shown`."""

    store: str
    path: str
    shown: str

    @property
    def is_stored(self) -> bool:
        """Whether references hold the value at `path` itself, so that there is nothing to look up."""
        return self.path == self.shown


class Targets:
    """The entities that references lead to, as far as they have been looked up. With `as_seen`, a store that the caller
    may not read is one without entities, and what is not found is not looked up again."""

    def __init__(self, client: Client, *, as_seen: bool = False) -> None:
        self.client = client
        self._as_seen = as_seen
        self._found: dict[Key, dict[Json, Json]] = {}

    def shown(self, key: Key, value: Json) -> Json:
        """Return the value at `key.shown` of the entity with this value at `key.path`; None without such an entity, or
        if it has no value there."""
        return self._found.get(key, {}).get(value)

    async def look_up(self, wanted: Mapping[Key, Iterable[Json]]) -> None:
        """Look up the values that are not known yet."""
        if sum(map(len, self._found.values())) > MOST_REMEMBERED:
            self._found.clear()
        for key, values in wanted.items():
            known = self._found.setdefault(key, {})
            for asked in queries([value for value in dict.fromkeys(values) if value not in known]):
                await self._ask(key, asked)
                if self._as_seen:
                    known.update((value, None) for value in asked if value not in known)

    async def _ask(self, key: Key, values: Sequence[Json]) -> None:
        """Look up the values. If the hub does not take all of them in one filter, look up halves."""
        params = {
            "filter": json.dumps({key.path: {"$in": values}}, ensure_ascii=False),
            "only": f"{key.path},{key.shown}",
            "limit": str(len(values)),
        }
        try:
            found = await repeated(lambda: self.client.call("GET", path_of(key.store), params=params))
        except Refused as error:
            if error.status == 403 and self._as_seen:
                return
            if error.status not in (400, 414, 431) or (error.status == 400 and len(values) == 1):
                raise Failure(f"looking up {key.store} by {key.path}: {error}") from error
            middle = len(values) // 2
            for half in (values[:middle], values[middle:]) if middle else ():
                await self._ask(key, half)
            return
        for entity in found:
            value, shown = pick(entity, key.path), pick(entity, key.shown)
            if is_single(value) and not isinstance(shown, Absent):
                self._found[key][value] = shown  # type: ignore[index]


def is_single(value: object) -> bool:
    """Return whether a unique field may have the value."""
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def queries(values: Sequence[Json]) -> Iterator[list[Json]]:
    """Yield the values in lists for one query each."""
    found: list[Json] = []
    size = 0
    for value in values:
        length = len(quote(json.dumps(value, ensure_ascii=False))) + len("%2C%20")
        if found and (len(found) == MOST_AT_ONCE or size + length > LONGEST_QUERY):
            yield found
            found, size = [], 0
        found.append(value)
        size += length
    if found:
        yield found
