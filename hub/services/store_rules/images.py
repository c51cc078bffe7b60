"""The rule of images of listings: exactly one is the main one, a listing has a bounded number of them, and a change of
images is a change of their listing. An image belongs to those to whom its listing belongs, whoever adds it, and only
those add it who may change the listing.

Each commit that changes images writes to their listings. So of two commits that change images of one listing, one sees
the result of the other: on SQLite there is one writer, and on MongoDB transactions that write to one document collide.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final

from auth.policy import view_of
from hub.services.stamping import stamp_change, stamps_of
from hub.services.store_rules.base import StoreRule, Surroundings
from hub.services.store_rules.effects import Effect, altered_fields, names_set
from hub.services.store_rules.main_images import MainImages
from hub.services.store_rules.touching import touch
from stores.bounds import Limit
from stores.computing import Compute, Computed
from stores.errors import InvalidEntity, Violation
from stores.procedures import Step, do, find
from stores.protocol import UNBOUNDED, Insert, Update, UpdateMany, Upsert, Write
from stores.query import NOTHING, And, In
from stores.records import Entity, same
from stores.reference_checks import Substeps, pieces
from stores.schema import StoreDefinition

LISTING: Final = "property"
IS_MAIN: Final = "is_main"
NUMBER: Final = "number"

MOST_IMAGES: Annotated[int, Limit("listing", "images", "400")] = 50

OWNERS: Final = ("owner", "group", "branch")
"""The system fields that say to whom an entity belongs. Each is shared for itself."""

_DECIDING: Final = frozenset({LISTING, IS_MAIN})
_DECIDED: Final = frozenset({IS_MAIN, *OWNERS})


@dataclass(frozen=True, slots=True)
class Decided:
    """The `Compute` of a change of images: what `inner` computes, and which image is a main one, as the commit has
    decided before. Images that come to another listing `moved` get its owners."""

    inner: Compute | None
    decisions: Mapping[str, bool]
    moved: Mapping[str, Entity]

    @property
    def size(self) -> int:
        return 0 if self.inner is None else self.inner.size

    @property
    def names(self) -> frozenset[str]:
        return _DECIDED if self.inner is None else self.inner.names | _DECIDED

    def __call__(self, entity: Entity) -> Computed:
        computed = Computed({}) if self.inner is None else self.inner(entity)
        fields: dict[str, Any] = {name: value for name, value in computed.fields.items() if name != IS_MAIN}
        chosen = dict(self.moved.get(entity["_id"], {}))
        if (is_main := self.decisions.get(entity["_id"])) is not None:
            chosen[IS_MAIN] = is_main
        fields |= {name: value for name, value in chosen.items() if not same(entity.get(name), value)}
        return Computed(fields, computed.removed - {IS_MAIN})


class ImageRule(StoreRule):
    def __init__(self, surroundings: Surroundings, definition: StoreDefinition) -> None:
        super().__init__(surroundings, definition)
        self._decisions: dict[str, bool] = {}
        self._others: dict[bool, list[str]] = {}
        self._touched: dict[str, None] = {}
        self._moved: dict[str, Entity] = {}

    @property
    def fields(self) -> Sequence[str]:
        return (LISTING, IS_MAIN, NUMBER)

    def own(self, write: Write) -> Write:
        match write:
            case Insert():
                return replace(write, entity={**write.entity})
            case Upsert():
                compute = self._computed(write.compute)
                return replace(write, entity={**write.entity}, changes={**write.changes}, compute=compute)
            case Update():
                return replace(write, changes={**write.changes}, compute=self._computed(write.compute))
            case UpdateMany() if not names_set(write).isdisjoint(_DECIDING):
                # Each match may get another value.
                changes = {name: value for name, value in write.changes.items() if name != IS_MAIN}
                return replace(write, changes=changes, compute=self._decided(write.compute))
        return write

    def _computed(self, compute: Compute | None) -> Compute | None:
        is_deciding = compute is not None and not compute.names.isdisjoint(_DECIDING)
        return self._decided(compute) if is_deciding else compute

    def _decided(self, compute: Compute | None) -> Compute:
        return Decided(compute, self._decisions, self._moved)

    def before(self, further: Sequence[Write]) -> Substeps:
        for sent, made in zip(self.sent, self.made, strict=True):
            _undo(sent, made)
        effects = yield from self.effects(further)
        yield from self._find_owners(effects)
        images = yield from self._stored(effects)
        for effect in effects:
            self._apply(effect, images)
        self._touched = dict.fromkeys(listing for effect in effects for listing in _changed_listings(effect))
        self._decide(images, {effect.id for effect in effects if not _DECIDING.isdisjoint(effect.sets)})
        of_writes: dict[int, list[Effect]] = {}
        for effect in effects:
            of_writes.setdefault(effect.index, []).append(effect)
        for index, write in enumerate(self.made):
            self._fill(write, of_writes.get(index, ()))

    def _find_owners(self, effects: Sequence[Effect]) -> Substeps:
        """Note to whom the images will belong that come to a listing. Raises InvalidEntity for a listing that the
        writer may not change."""
        self._moved.clear()
        coming = [effect for effect in effects if _new_listing(effect) is not None]
        for relation in self.definition.relations:
            if relation.path == (LISTING,) and coming:
                listings = self.surroundings.registry.get(relation.target)
                view = view_of(self.surroundings.principal, listings, "PATCH")
                may_change = NOTHING if view is None else view.where
                owners: dict[str, Entity] = {}
                for piece in pieces(dict.fromkeys(_new_listing(each) or "" for each in coming)):
                    where = And((In((relation.by,), piece), may_change))
                    for found in (yield from find(relation.target, where, len(piece), (relation.by, *OWNERS))):
                        owners[found[relation.by]] = {name: found[name] for name in OWNERS if name in found}
                for effect in coming:
                    listing = _new_listing(effect) or ""
                    if listing not in owners:
                        field = f"{self.surroundings.prefix(effect.index)}{LISTING}"
                        raise InvalidEntity([Violation(field, "reference", relation.target)])
                    self._moved[effect.id] = owners[listing]

    def _decide(self, images: MainImages, set_by_writes: Collection[str]) -> None:
        """Note for each image whether it is the main one, which of those that no write sets get another value, and the
        listings of all that do."""
        self._decisions.clear()
        self._others = {True: [], False: []}
        for listing, image, is_main in images.choices():
            self._decisions[image.id] = is_main
            if image.stored is not None and image.stored != is_main:
                self._touched[listing] = None
                if image.id not in set_by_writes:
                    self._others[is_main].append(image.id)

    def after(self) -> Substeps:
        for is_main, ids in self._others.items():
            for piece in pieces(ids):
                where, fields = In(("_id",), piece), stamp_change({IS_MAIN: is_main})
                stamps = stamps_of(self.definition)
                yield from do(UpdateMany(self.definition.name, where, fields, len(piece), stamps=stamps))
        for relation in self.definition.relations:
            if relation.path == (LISTING,):
                listings = self.surroundings.registry.get(relation.target)
                yield from touch(listings, (relation.by,), self._touched)

    def _stored(self, effects: Sequence[Effect]) -> Generator[Step, Any, MainImages]:
        """Return the images of the listings that the effects concern, as the commit finds them."""
        images = MainImages()
        listings = dict.fromkeys(listing for effect in effects for listing in _listings(effect))
        for piece in pieces(listings):
            where = In((LISTING,), piece)
            for each in (yield from find(self.definition.name, where, UNBOUNDED, tuple(self.fields))):
                if not isinstance(each[LISTING], str):
                    continue  # another program may have stored anything
                images.stored(each[LISTING], each["_id"], each.get(NUMBER), is_main=each.get(IS_MAIN) is True)
        return images

    def _apply(self, effect: Effect, images: MainImages) -> None:
        before, after = effect.before or {}, effect.after or {}
        old, new = before.get(LISTING), after.get(LISTING)
        if effect.after is None:
            images.delete(old, effect.id)
        elif effect.before is not None:
            is_main = effect.sets[IS_MAIN] is True if IS_MAIN in effect.sets else None
            images.change(old, new, effect.id, is_main, after.get(NUMBER))
        elif new is not None:  # otherwise the write is refused
            images.insert(new, effect.id, after.get(NUMBER), is_main=after.get(IS_MAIN) is True)
        if new is not None and new != old:
            self._check_number(images.number_of(new), effect)

    def _check_number(self, count: int, effect: Effect) -> None:
        """Raise InvalidEntity for more images of a listing than it may have."""
        if count > MOST_IMAGES:
            field = f"{self.surroundings.prefix(effect.index)}{LISTING}"
            text = f"A listing has at most {MOST_IMAGES} images."
            raise InvalidEntity([Violation(field, "invalid", text)]).at("MOST_IMAGES")

    def _fill(self, write: Write, effects: Sequence[Effect]) -> None:
        """Put what is decided into a write that concerns one image."""
        for effect in effects:
            is_main = self._decisions.get(effect.id)
            if is_main is None:
                continue
            chosen: Entity = {IS_MAIN: is_main, **self._moved.get(effect.id, {})}
            match write:
                case Insert(entity=entity):
                    entity.update(chosen)
                case Upsert():
                    write.entity.update(chosen)
                    if not _DECIDING.isdisjoint(write.changes):
                        write.changes.update(chosen)
                case Update() if write.replace or not _DECIDING.isdisjoint(write.changes):
                    write.changes.update(chosen)


def _undo(sent: Write, made: Write) -> None:
    """Take out of a write what an earlier attempt of the commit has put into it."""
    match sent, made:
        case (Insert(), Insert()):
            _restore(sent.entity, made.entity)
        case (Upsert(), Upsert()):
            _restore(sent.entity, made.entity)
            _restore(sent.changes, made.changes)
        case (Update(), Update()):
            _restore(sent.changes, made.changes)


def _restore(sent: Entity, made: Entity) -> None:
    for name in _DECIDED:
        if name in sent:
            made[name] = sent[name]
        else:
            made.pop(name, None)


def _new_listing(effect: Effect) -> str | None:
    """Return the listing to which an effect brings an image; None if it leaves the image where it is."""
    before, after = effect.before or {}, effect.after or {}
    listing = after.get(LISTING)
    return listing if isinstance(listing, str) and listing != before.get(LISTING) else None


def _listings(effect: Effect) -> Iterator[str]:
    """Yield the listings of an image before and after an effect."""
    for entity in (effect.before, effect.after):
        if entity is not None and isinstance(entity.get(LISTING), str):
            yield entity[LISTING]


def _changed_listings(effect: Effect) -> Iterator[str]:
    """Yield the listings whose images an effect changes, apart from which of them is the main one."""
    if effect.before is None or effect.after is None or any(name != IS_MAIN for name in altered_fields(effect)):
        yield from _listings(effect)
