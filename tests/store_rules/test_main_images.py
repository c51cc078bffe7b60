"""The choice of main images, compared with a plain account of what happens."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hub.services.store_rules.main_images import MainImages

LISTINGS = "ab"
number = st.integers(0, 9)
listing = st.sampled_from(LISTINGS)
stored = st.lists(st.tuples(listing, st.booleans()), max_size=6)
operations = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), listing, st.booleans()),
        st.tuples(st.just("delete"), number),
        st.tuples(st.just("set"), number, st.sampled_from([True, False, None])),
        st.tuples(st.just("move"), number, listing, st.sampled_from([True, False, None])),
    ),
    max_size=8,
)


@given(stored, operations)
def test_each_listing_with_images_has_one_main_image(stored: list[tuple[str, bool]], operations: list[tuple]) -> None:  # type: ignore[type-arg]
    """The last one that was set as such and is still there, otherwise the one before; otherwise the lowest."""
    images = MainImages()
    places: dict[str, str] = {}
    claims: dict[str, list[str]] = {name: [] for name in LISTINGS}
    for index, (where, is_main) in enumerate(stored):
        images.stored(where, f"{index:02}", index, is_main=is_main)
        places[f"{index:02}"] = where
        if is_main and not claims[where]:
            claims[where].append(f"{index:02}")
    count = len(stored)
    for operation, *arguments in operations:
        if operation == "insert":
            where, is_main = arguments
            id, count = f"{count:02}", count + 1
            images.insert(where, id, None, is_main=is_main)
            places[id] = where
            if is_main:
                claims[where] = [id]
            continue
        id = f"{arguments[0]:02}"
        if id not in places:
            continue
        old = places[id]
        if operation == "delete":
            images.delete(old, id)
            del places[id]
            claims[old] = [each for each in claims[old] if each != id]
            continue
        new, is_main = (old, arguments[1]) if operation == "set" else (arguments[1], arguments[2])
        images.change(old, new, id, is_main, None)
        if new != old:
            places[id] = new
            claims[old] = [each for each in claims[old] if each != id]
        if is_main:
            claims[new] = [id]
    decided = {image.id: (where, is_main) for where, image, is_main in images.choices()}
    assert {id: where for id, (where, _) in decided.items()} == places
    for where in LISTINGS:
        there = [id for id in places if places[id] == where]
        mains = [id for id in there if decided[id][1]]
        assert len(mains) == (1 if there else 0)
        if claims[where]:
            assert mains == claims[where]
        elif there:
            known = [id for id in there if int(id) < len(stored)]
            assert mains[0] == min(known) if known else mains[0] in there
