"""The plan of an expansion: which references are followed from which store to which, and what each reader sees there.

A plan is made from the paths of a request, the definitions of stores, and the views of one principal. It reads nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

from auth.policy import view_of
from auth.principal import Principal
from auth.view import View
from hub.services.registry import StoreRegistry
from stores.bounds import Limit
from stores.errors import InvalidQuery, NotFound
from stores.paths import Path
from stores.query import Projection
from stores.records import Entity
from stores.relation import Relation, Value

MOST_EXPANDED_PATHS: Final[Annotated[int, Limit("request", "paths to expand", "400")]] = 10
MOST_EXPANDED_DEPTH: Final[Annotated[int, Limit("path to expand", "references", "400")]] = 3
MOST_REFERRING: Final[Annotated[int, Limit("entity and path", "entities that refer to it", "the newest")]] = 100
MOST_PLANS: Annotated[int, Limit("process", "plans of expansions", "all go, and are made again")] = 256

PARAMETER: Final = "expand"


@dataclass(frozen=True, slots=True)
class Referring:
    """A segment of a path that leads to what refers here: to entities of `store`, by their references at `path`."""

    store: str
    path: Path

    def __str__(self) -> str:
        return f"{self.store}({'.'.join(self.path)})"


Segment = str | Referring
Segments = tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class Expand:
    """The expansion that a request names: paths to references, and the paths to show (None: everything), which may lead
    through these references."""

    paths: tuple[Segments, ...]
    only: tuple[Segments, ...] | None = None


@dataclass(frozen=True, slots=True)
class Hop:
    """One reference that is followed, from the entities of a level to those of another one.

    `name` is its path as asked. `is_reverse`: it leads to what refers here. `level` is None if the store that it leads
    to is out of the reader's sight.
    """

    name: Segments
    relation: Relation
    is_reverse: bool
    level: Level | None

    @property
    def text(self) -> str:
        return text_of(self.name)

    @property
    def path(self) -> Path:
        """The path of the values that are looked up, in the store that the hop leads to."""
        return self.relation.path if self.is_reverse else (self.relation.by,)

    @property
    def plain_field(self) -> str:
        """The field that holds the value that is looked up; empty if that may be in an object or a list."""
        if self.is_reverse:
            return self.relation.by
        return self.relation.path[0] if len(self.relation.path) == 1 and not self.relation.many else ""

    @property
    def each(self) -> int:
        """The most entities for one value."""
        return MOST_REFERRING if self.is_reverse else 1

    def values(self, entity: Entity) -> frozenset[Value]:
        """Return the values of an entity that are looked up."""
        if not self.is_reverse:
            return self.relation.values(entity)
        value = self.own_value(entity)
        return frozenset() if value is None else frozenset((value,))

    def own_value(self, entity: Entity) -> Value | None:
        """Return the value by which others refer to an entity."""
        value = entity.get(self.relation.by)
        return value if isinstance(value, str | int) and not isinstance(value, bool) else None


@dataclass(frozen=True, slots=True)
class Level:
    """Entities of one store: what is shown of them, and the hops from them. `read`: `shown` and the fields that the
    hops need."""

    view: View
    shown: Projection
    read: Projection
    hops: tuple[Hop, ...]


class Planner:
    """Makes plans for one principal."""

    def __init__(self, registry: StoreRegistry, principal: Principal) -> None:
        self._registry = registry
        self._principal = principal

    def plan(self, view: View, asked: Expand) -> Level:
        """Return the plan for entities of `view`. Raises InvalidQuery for a path that leads to no reference, and for
        one of `only` that the reader may not name."""
        if len(asked.paths) > MOST_EXPANDED_PATHS:
            raise refused(f"at most {MOST_EXPANDED_PATHS} paths").at("MOST_EXPANDED_PATHS")
        return self._level(view, asked.paths, asked.only, 0)

    def _level(self, view: View, paths: Sequence[Segments], only: Sequence[Segments] | None, depth: int) -> Level:
        asked: dict[Segments, list[Segments]] = {}
        steps: dict[Segments, _Step] = {}
        for path in paths:
            if depth == MOST_EXPANDED_DEPTH:
                text = f"{text_of(path)}: at most {MOST_EXPANDED_DEPTH} references deep"
                raise refused(text).at("MOST_EXPANDED_DEPTH")
            step = self._step(view, path)
            steps[step.name] = step
            asked.setdefault(step.name, []).extend([path[len(step.name) :]] if len(path) > len(step.name) else [])
        choice = _Choice(only, steps)
        choice.check(view, depth)
        hops: list[Hop] = []
        for name, step in steps.items():
            # What is not shown is checked all the same.
            target = step.target
            level = None if target is None else self._level(target, asked[name], choice.inside[name], depth + 1)
            if choice.selects(name):
                hops.append(Hop(name, step.relation, step.is_reverse, level))
        shown = view.shown(Projection(choice.own))
        return Level(view, shown, _with_fields(shown, hops), tuple(hops))

    def _step(self, view: View, path: Segments) -> _Step:
        """Return the first reference of a path. Raises InvalidQuery when there is none that the reader may name: one in
        a hidden field is like one that does not exist."""
        first = path[0]
        if isinstance(first, Referring):
            return self._reverse(view, first)
        if view.shows(first):
            for relation in view.definition.relations:
                if path[: len(relation.path)] == relation.path:
                    return _Step(relation.path, relation, self._view(relation.target), False)
        raise refused(f"{view.store} has no reference {text_of(path)!r:.200}")

    def _reverse(self, view: View, referring: Referring) -> _Step:
        target = self._view(referring.store)
        if target is not None and target.shows(referring.path[0]):
            for relation in target.definition.relations:
                if relation.path == referring.path and relation.target == view.store:
                    return _Step((referring,), relation, target, True)
        if target is not None or self._may_know(referring.store):
            raise refused(f"there is no reference to {view.store} at {str(referring)!r:.200}")
        return _Step((referring,), Relation(referring.store, referring.path, view.store), None, True)

    def _view(self, store: str) -> View | None:
        try:
            return view_of(self._principal, self._registry.get(store), "GET")
        except NotFound:
            return None

    def _may_know(self, store: str) -> bool:
        """Return whether the reader may see that there is no store of this name. Otherwise a missing store is treated
        like an invisible one."""
        return self._principal.may("GET", store) or self._principal.may_administer("GET", "stores")


class KeptPlans:
    """Makes plans, and keeps them until definitions change: a client asks for the same paths again and again. Plans
    with `only` are not kept, because it may be long."""

    def __init__(self, registry: StoreRegistry) -> None:
        self._registry = registry
        self._generation = registry.generation
        self._plans: dict[tuple[Principal, str, Expand], Level] = {}

    def plan(self, principal: Principal, store: str, expand: Expand) -> Level:
        """Return the plan for a store. Raises NotFound, Forbidden, and InvalidQuery as `Planner.plan` does."""
        if self._generation != self._registry.generation or len(self._plans) >= MOST_PLANS:
            self._plans.clear()
            self._generation = self._registry.generation
        key = principal, store, expand
        plan = self._plans.get(key)
        if plan is None:
            view = self._registry.authorized(principal, store)
            plan = Planner(self._registry, principal).plan(view, expand)
            if expand.only is None:
                self._plans[key] = plan
        return plan


@dataclass(frozen=True, slots=True)
class _Step:
    """A reference at the beginning of a path. `target`: the view of the store that it leads to."""

    name: Segments
    relation: Relation
    target: View | None
    is_reverse: bool


class _Choice:
    """The paths of `only` at one level. `own` are those that end in its entities; `inside` are the rest of those that
    lead through a reference, by its name (None: everything)."""

    def __init__(self, only: Sequence[Segments] | None, names: Iterable[Segments]) -> None:
        self.own: tuple[Path, ...] | None = None
        self.inside: dict[Segments, list[Segments] | None] = dict.fromkeys(names)
        self._selected: set[Segments] = {*self.inside}
        self._unknown: list[Segments] = []
        if only is not None:
            self._selected = set()
            self._sort_out(only)

    def _sort_out(self, only: Sequence[Segments]) -> None:
        own: list[Path] = []
        whole: set[Segments] = set()
        inside: dict[Segments, list[Segments]] = {name: [] for name in self.inside}
        for path in only:
            through = next((name for name in inside if path[: len(name)] == name), None)
            if through is None:
                # It may lead to an object around references.
                whole.update(name for name in inside if name[: len(path)] == path)
            elif len(path) == len(through):
                whole.add(through)
            else:
                inside[through].append(path[len(through) :])
            named = path if through is None else through
            plain = tuple(segment for segment in named if isinstance(segment, str))
            if len(plain) == len(named):
                own.append(plain)
            elif through is None:
                self._unknown.append(path)
        self.own = tuple(dict.fromkeys(own))
        self._selected = whole | {name for name, paths in inside.items() if paths}
        self.inside = {name: None if name in whole else paths for name, paths in inside.items()}

    def check(self, view: View, depth: int) -> None:
        """Raise InvalidQuery for a path that the reader may not name."""
        if self._unknown:
            raise InvalidQuery("only", f"{text_of(self._unknown[0])!r:.200} is not expanded")
        for path in self.own or ():
            try:
                view.check_path(".".join(path))
            except InvalidQuery as error:
                if depth == 0:
                    raise
                raise InvalidQuery("only", error.message) from None

    def selects(self, name: Segments) -> bool:
        return name in self._selected


def _with_fields(shown: Projection, hops: Iterable[Hop]) -> Projection:
    """Return the projection with the fields by which others refer to an entity."""
    needed = {hop.relation.by for hop in hops if hop.is_reverse and hop.relation.by != "_id"}
    if shown.only is None:
        needed = {name for name in needed if not shown.shows(name)}
    if not needed:
        return shown
    only = None if shown.only is None else (*shown.only, *((name,) for name in sorted(needed)))
    return Projection(only, shown.hidden - needed, None if shown.known is None else shown.known | needed)


def text_of(path: Segments) -> str:
    return ".".join(map(str, path))


def refused(text: str) -> InvalidQuery:
    return InvalidQuery(PARAMETER, text)
