"""The errors of stores and engines, as one tree.

StoreError
├── InvalidQuery            a filter, sort, page or projection that cannot be answered
│   ├── UpsertTooLarge      the entities that an array of upserts would change are too large together
│   └── ReadTooLarge        the entities that are to be read are too large together
├── FilterTooCostly         a filter takes too many steps over one entity
├── InvalidEntity           an entity that breaks its schema or the limits of any entity
│   ├── EntityTooLarge      an entity larger than the limit of all entities
│   └── ParallelArrays      an entity with lists at two paths of one index
├── Conflict
│   ├── DuplicateValue      a unique field already holds this value
│   ├── StaleRevision       the entity is no longer at the expected revision
│   ├── NotAsExpected       a condition of the commit no longer holds
│   ├── DefinitionChanged   the values were checked against a definition that is not in force any more
│   ├── DataConflict   entities of the store do not fit a new definition
│   ├── KeyReused           an idempotency key was sent with another request before
│   └── StoreNotEmpty       a store that still holds entities cannot be dropped
├── NotFound                no such entity, or the caller may not see it
├── TooManyLists            one user reads more long lists at once than allowed
├── TooManyMatches          a bulk change matches more entities than allowed
├── TooManyConsequences     what goes with a write is more than allowed
├── HistoryGone             a position from which the feed cannot resume
├── Unavailable             the database does not answer now; try again
│   ├── ReadTimeout         a read takes longer than allowed
│   │   └── TooManySlowReads    a read would wait too long for other slow reads
│   ├── TooManySlowWrites   a write has waited too long for other writes; nothing was written
│   ├── ComputedTooLong     computing changes has taken longer than allowed; nothing was written
│   └── DataChanging        the entities of a store are being changed with its definition; only reads are answered
├── StorageFull             the disk or quota is exhausted; nothing was written
├── LeaseLost               another process works for this consumer of the feed now
├── ConsumerStopped         a consumer of the feed has stopped; the log and a metric report it
│   ├── ConsumerBehind      the feed has dropped changes that the consumer has not handled
│   └── ConsumerFailing     the handler has failed too often in a row
└── CannotOpen              the database cannot be used; the text says why and what to do
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from stores.bounds import Limited


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule: `field` is a dotted path (``3.price`` in item 3 of an array), `rule` a stable word of
    `stores.rule_texts.RULES`, `detail` a value for its message (an allowed maximum, the offending value)."""

    field: str
    rule: str
    detail: str = ""

    @property
    def location(self) -> str:
        """The field as an answer shows it: a name that is too long is cut to the allowed length."""
        if self.rule != "name_too_long":
            return self.field
        return ".".join(name[: int(self.detail)] for name in self.field.split("."))


class StoreError(Limited):
    """Base of all errors that an engine or the model layer raises on purpose."""


class InvalidQuery(StoreError):
    """`field` names the parameter, path or operator at fault; `message` describes the mistake."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


class UpsertTooLarge(InvalidQuery):
    def __init__(self, most: int) -> None:
        text = f"The entities that these items meet exceed {most} bytes together (MOST_UPSERT_BYTES): send fewer."
        super().__init__("upsert", text)
        self.limit_name = "MOST_UPSERT_BYTES"


class ReadTooLarge(InvalidQuery):
    def __init__(self, most: int) -> None:
        super().__init__("limit", f"What is read has more than {most} bytes: ask for less.")


class FilterTooCostly(StoreError):
    def __init__(self, limit: int) -> None:
        super().__init__(f"the filter takes more than {limit} steps over one entity")


class InvalidEntity(StoreError):
    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__("; ".join(f"{v.location}: {v.rule} {v.detail}".rstrip() for v in violations))
        self.violations = tuple(violations)


class RefusedEntity(InvalidEntity):
    """An entity that the engine refuses as it would be after the write. `index` is the position of the write in its
    commit."""

    index: int = 0

    def in_item(self) -> InvalidEntity:
        """Return the error for a body of many entities, with the position of the item."""
        placed = [replace(violation, field=self._in_item(violation.field)) for violation in self.violations]
        return InvalidEntity(placed).at(self.limit_name)

    def _in_item(self, field: str) -> str:
        return f"{self.index}.{field}"


class EntityTooLarge(RefusedEntity):
    def __init__(self, most: int, limit_name: str = "max_entity_bytes") -> None:
        super().__init__([Violation("entity", "too_large", str(most))])
        self.limit_name = limit_name

    def _in_item(self, field: str) -> str:
        return str(self.index)


class ParallelArrays(RefusedEntity):
    """Two paths of one index lead into different lists: `later` and `earlier`, in the order of the index."""

    def __init__(self, later: str, earlier: str, index: int = 0) -> None:
        super().__init__([Violation(later, "parallel", earlier)])
        self.later = later
        self.earlier = earlier
        self.index = index


class Conflict(StoreError):
    pass


class DuplicateValue(Conflict):
    """`field`, or each of `fields` together, has the values of another entity. `index` is the position of the refused
    write in its commit, `key` the name of the compound index that refuses."""

    def __init__(self, field: str, index: int = 0, others: Sequence[str] = (), key: str = "") -> None:
        self.fields = (field, *others)
        super().__init__(f"another entity has this value of {', '.join(self.fields)}")
        self.field = field
        self.index = index
        self.key = key


class StaleRevision(Conflict):
    def __init__(self, current: int) -> None:
        super().__init__(f"the entity is at revision {current}")
        self.current = current


class NotAsExpected(Conflict):
    """The state on which the commit was based has changed: read it again and decide again."""

    def __init__(self) -> None:
        super().__init__("Something that this depends on has just changed: try again.")


class DefinitionChanged(Conflict):
    """The values must be checked again, against the current definition of the store."""

    def __init__(self, store: str) -> None:
        super().__init__(f"The definition of {store} has just changed: try again.")


class DataConflict(Conflict):
    """`found`: {field: text with the number of entities and the reason}."""

    def __init__(self, found: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{name}: {text}" for name, text in found.items()))
        self.found = dict(found)


class KeyReused(Conflict):
    pass


class StoreNotEmpty(Conflict):
    pass


class NotFound(StoreError):
    pass


class TooManyLists(StoreError):
    def __init__(self, most: int) -> None:
        super().__init__(f"{most} long lists of this user are being read")
        self.limit_name = "max_long_lists_per_user"


class TooManyMatches(StoreError):
    def __init__(self, limit: int) -> None:
        super().__init__(f"more than {limit} entities match")
        self.limit = limit
        self.limit_name = "max_matches"


class TooManyConsequences(StoreError):
    """`most` is what a write may change with what follows from it, with its unit: ``100000 entities``. `field` is the
    part of the request to which that is due."""

    def __init__(self, most: str, field: str = "_id") -> None:
        super().__init__(f"with what goes with it, more than {most} would change")
        self.most = most
        self.field = field


class HistoryGone(StoreError):
    pass


class Unavailable(StoreError):
    pass


class ReadTimeout(Unavailable):
    limit_name = "read_timeout"

    def __init__(self, text: str = "the read took longer than it may") -> None:
        super().__init__(text)


class TooManySlowReads(ReadTimeout):
    def __init__(self) -> None:
        super().__init__("too many reads take long at once")


class TooManySlowWrites(Unavailable):
    def __init__(self) -> None:
        super().__init__("too many writes take long at once")


class ComputedTooLong(Unavailable):
    def __init__(self, seconds: float) -> None:
        super().__init__(f"computing the changes takes longer than {seconds:g} seconds")
        self.seconds = seconds
        self.limit_name = "LONGEST_COMPUTING"


class DataChanging(Unavailable):
    def __init__(self, store: str) -> None:
        super().__init__(f"the entities of {store} are being changed with its definition")
        self.store = store


class StorageFull(StoreError):
    pass


class LeaseLost(StoreError):
    pass


class ConsumerStopped(StoreError):
    pass


class ConsumerBehind(ConsumerStopped):
    pass


class ConsumerFailing(ConsumerStopped):
    pass


class CannotOpen(StoreError):
    pass


class refused_at:  # noqa: N801 (used like a function)
    """Context manager that sets `RefusedEntity.index` to the position of a write in its commit."""

    __slots__ = ("_index",)

    def __init__(self, index: int) -> None:
        self._index = index

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, RefusedEntity):
            error.index = self._index
