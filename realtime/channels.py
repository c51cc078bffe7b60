"""Channels: equal subscriptions share one, and a change looks up the channels that it may concern.

The terms of a channel are equality conditions, such as ``_id = x``, or the two of ``owner = me or access = me``. Every
match of its filter meets at least one of them. For a change, the index looks up the values of the entity, before and
after, at every path that some channel has terms for. A channel without terms is checked for every change.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Final, Generic, TypeVar

from realtime.change_view import ChangeView
from realtime.term_index import Term, TermIndex, term_value
from stores import query
from stores.bounds import Limit
from stores.canonical import canonical_text, tree_of
from stores.errors import FilterTooCostly
from stores.query import Filter, Projection
from stores.records import Change
from stores.steps import StepBudget

LOOKUP_STEPS: Final = 100_000
"""Maximum steps to look up the channels for one change. Beyond that, all channels of the store are checked."""

Member = TypeVar("Member")

MOST_INDEXED_VALUES: Final[Annotated[int, Limit("filter", "indexed values", "looked at for every change")]] = 1_000
"""Maximum terms under which one channel is indexed. A channel with more is checked for every change."""


@dataclass(frozen=True, slots=True)
class ChannelKey:
    """The key by which equal subscriptions share a channel.

    `where` is the canonical text of their filter, `digest` the digest of their view.
    """

    store: str
    where: str
    projection: Projection
    digest: str


class Channel(Generic[Member]):
    """The subscriptions with one key and topic, which is the name that its events carry."""

    __slots__ = ("_view", "_where", "key", "members", "projection", "terms", "topic")

    def __init__(self, key: ChannelKey, where: Filter, topic: str) -> None:
        self.key = key
        self.topic = topic
        self.members: dict[Member, None] = {}
        self.terms = terms_of(where)
        self._where = where
        self._view: ChangeView | None = None

    @property
    def is_compiled(self) -> bool:
        return self._view is not None

    @property
    def view(self) -> ChangeView:
        # Compiled when the first change arrives: in a large hub most channels watch entities that do not change.
        if self._view is None:
            self._view = ChangeView(self.key.store, self._where, self.key.projection)
        return self._view


def topic_of(store: str, where: Filter, projection: Projection) -> str:
    """Return the topic of a subscription. It is the same for equal store, filter and projection in every process."""
    known = None if projection.known is None else sorted(projection.known)
    text = canonical_text([store, tree_of(where), projection.only, sorted(projection.hidden), known])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def terms_of(node: Filter) -> frozenset[Term] | None:
    """Return terms of which every match has at least one; None if there are no such terms."""
    match node:
        case query.Equal(path=path, value=value) if isinstance(value, str | int | float):
            return frozenset({(path, term_value(value))}) if path else None
        case query.In(path=path, values=values) if path and len(values) <= MOST_INDEXED_VALUES:
            if all(isinstance(v, str | int | float) for v in values):
                return frozenset((path, term_value(v)) for v in values)
        case query.And(parts=parts):
            found = [terms for terms in map(terms_of, parts) if terms is not None]
            return min(found, key=len) if found else None
        case query.Or(parts=parts):
            choices = [terms_of(part) for part in parts]
            union = frozenset(term for terms in choices if terms is not None for term in terms)
            return union if None not in choices and len(union) <= MOST_INDEXED_VALUES else None
    return None


@dataclass(slots=True)
class _StoreIndex(Generic[Member]):
    """The channels of one store. `always` has those without terms, `indexed` the others."""

    terms: TermIndex[Channel[Member]] = field(default_factory=TermIndex)
    indexed: dict[Channel[Member], None] = field(default_factory=dict)
    always: dict[Channel[Member], None] = field(default_factory=dict)
    budget: StepBudget = field(default_factory=lambda: StepBudget(LOOKUP_STEPS))
    gave_up: bool = False
    """Whether the last look-up took too many steps."""

    def add(self, channel: Channel[Member]) -> None:
        if channel.terms is None:
            self.always[channel] = None
            return
        self.indexed[channel] = None
        for term in channel.terms:
            self.terms.add(term, channel)

    def remove(self, channel: Channel[Member]) -> None:
        if channel.terms is None:
            del self.always[channel]
            return
        del self.indexed[channel]
        for term in channel.terms:
            self.terms.remove(term, channel)

    def candidates(self, change: Change) -> dict[Channel[Member], None]:
        self.budget.renew()
        self.gave_up = False
        try:
            return self.found(change)
        except FilterTooCostly:
            # All channels: their own filters decide, each with its own step budget.
            self.gave_up = True
            return self.always | self.indexed

    def found(self, change: Change) -> dict[Channel[Member], None]:
        """Return the channels without terms, and those with a term that the entity has. Raises FilterTooCostly."""
        found = dict(self.always)
        if self.indexed:
            self.terms.collect((change.before, change.after), found, self.budget.spend)
        return found


class ChannelIndex(Generic[Member]):
    """All channels, by store and by term."""

    def __init__(self) -> None:
        self.gave_up = False
        """Whether the last look-up was given up, and all channels of the store were returned."""
        self._channels: dict[tuple[ChannelKey, str], Channel[Member]] = {}
        self._stores: dict[str, _StoreIndex[Member]] = defaultdict(_StoreIndex)

    def __len__(self) -> int:
        return len(self._channels)

    def join(self, key: ChannelKey, where: Filter, topic: str, member: Member) -> Channel[Member]:
        # By topic too: filters of different text may have the same text beside the conditions of visibility.
        channel = self._channels.get((key, topic))
        if channel is None:
            channel = self._channels[key, topic] = Channel(key, where, topic)
            self._stores[key.store].add(channel)
        channel.members[member] = None
        return channel

    def leave(self, channel: Channel[Member], member: Member) -> None:
        """Remove a member if it is in the channel, and remove the channel with its last member."""
        if member not in channel.members:
            return
        del channel.members[member]
        if not channel.members:
            del self._channels[channel.key, channel.topic]
            self._stores[channel.key.store].remove(channel)

    def has_any(self, store: str) -> bool:
        """Return whether the store has channels."""
        index = self._stores.get(store)
        return index is not None and bool(index.always or index.indexed)

    def concerned(self, change: Change) -> Iterator[Channel[Member]]:
        """Return the channels that may show something of the change. Their views decide."""
        index = self._stores.get(change.store)
        if index is None:
            return iter(())
        candidates = index.candidates(change)
        self.gave_up = index.gave_up
        return iter(candidates)
