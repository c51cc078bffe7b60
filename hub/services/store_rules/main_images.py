"""Which image of a listing is its main one, worked out for the images that one commit concerns.

A listing with images has exactly one main image. An image that is set as the main one demotes the one before it; a main
image that goes is followed by the one with the lowest number, and so is a first one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf


@dataclass(slots=True)
class Image:
    """An image as the commit leaves it. `stored`: what the database says of it, apart from what the rule decides; None
    for a new one."""

    id: str
    number: float
    stored: bool | None = None


@dataclass(slots=True)
class Listing:
    """The images of one listing by their ids, in the order in which they came."""

    images: dict[str, Image] = field(default_factory=dict)
    main: str | None = None

    def has(self, image: Image) -> None:
        """Add an image that is stored. Of several main ones, which another program can make, the lowest counts."""
        self.images[image.id] = image
        if image.stored:
            other = self.images.get(self.main or "")
            if other is None or image.number < other.number:
                self.main = image.id

    def gains(self, image: Image, *, is_main: bool) -> None:
        self.images[image.id] = image
        if is_main:
            self.main = image.id

    def loses(self, id: str) -> None:
        self.images.pop(id, None)
        if self.main == id:
            self.main = None

    def chosen(self) -> str | None:
        """Return the id of the main image; None without images."""
        if self.main is None and self.images:
            return min(self.images.values(), key=lambda image: image.number).id
        return self.main


def _position(number: object) -> float:
    """Return the place of an image among those of its listing. Another program may have stored anything."""
    return number if type(number) is int else inf


@dataclass(slots=True)
class MainImages:
    """The listings that a commit concerns, by their ids."""

    listings: dict[str, Listing] = field(default_factory=dict)

    def stored(self, listing: str, id: str, number: object, *, is_main: bool) -> None:
        """Add an image as the commit finds it."""
        image = Image(id, _position(number), is_main)
        self.listings.setdefault(listing, Listing()).has(image)

    def insert(self, listing: str, id: str, number: object, *, is_main: bool) -> None:
        """Add a new image, or one that had no listing."""
        image = Image(id, _position(number))
        self.listings.setdefault(listing, Listing()).gains(image, is_main=is_main)

    def number_of(self, listing: str) -> int:
        """Return how many images a listing has."""
        return len(self.listings[listing].images) if listing in self.listings else 0

    def change(self, old: object, new: str | None, id: str, is_main: bool | None, number: object) -> None:
        """Change an image with a number: whether it is set as the main one (None: nothing is said of that), and move it
        from one listing to another. That it is not the main one is no instruction: some image has to be."""
        before = self.listings.get(old) if isinstance(old, str) else None
        image = None if before is None else before.images.get(id)
        if image is None:
            if new is not None and new != old:
                self.insert(new, id, number, is_main=is_main is True)
            return
        if old != new and before is not None:
            before.loses(id)
            if new is not None:
                self.listings.setdefault(new, Listing()).gains(image, is_main=is_main is True)
        elif is_main and before is not None:
            before.main = id

    def delete(self, listing: str | None, id: str) -> None:
        if listing is not None and listing in self.listings:
            self.listings[listing].loses(id)

    def choices(self) -> Iterator[tuple[str, Image, bool]]:
        """Yield each image with its listing, and whether it is the main one there."""
        for id, listing in self.listings.items():
            main = listing.chosen()
            for image in listing.images.values():
                yield id, image, image.id == main
