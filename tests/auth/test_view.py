"""Views: the visibility and permissions of one principal in one store."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from auth import policy
from auth.errors import Forbidden, ReadOnlyField
from auth.policy import MOST_VIEWS, authorize, reader_of, rights_digest, view_of
from auth.principal import Principal
from auth.system_stores import SYSTEM_STORES
from auth.view import View
from hub.dialects.platform.parameters import ListParameters
from realtime.requests import SubscribeRequest
from stores.errors import InvalidQuery
from stores.field import Field
from stores.parse import FilterLimits
from stores.query import EVERYTHING, WHOLE, Equal, In, Or, Projection
from stores.records import new_id
from stores.schema import StoreDefinition
from tests.support.principals import GROUP, ME, user

ORDERS = StoreDefinition("orders", (Field("name", "Text", search=True), Field("margin", "Number", hidden=True)), False)
SHARED = Or((Equal(("owner",), ME), Equal(("access",), ME), In(("group",), (GROUP,)), In(("branch",), (GROUP,))))
MINE = Equal(("owner",), ME)


@pytest.mark.parametrize(
    ("principal", "store", "method", "where"),
    [
        (user(), "orders", "DELETE", SHARED),
        (user(admin=True), "orders", "DELETE", EVERYTHING),
        (user(role="GET /orders/*"), "orders", "HEAD", SHARED),
        (user(role="GET /orders/*"), "orders", "PATCH", None),
        (user(token="PATCH /orders/*"), "orders", "GET", None),
        (user(), "users", "GET", Equal(("_id",), ME)),
        (user(), "users", "HEAD", Equal(("_id",), ME)),
        (user(), "users", "PATCH", Equal(("_id",), ME)),
        (user(), "users", "DELETE", None),
        (user(), "tokens", "POST", MINE),
        (user(), "tokens", "PUT", None),
        (user(), "keys", "PATCH", MINE),
        (user(), "keys", "PUT", None),
        (user(token="GET /*"), "keys", "GET", None),
        (user(), "sessions", "DELETE", MINE),
        (user(), "signins", "GET", MINE),
        (user(), "signins", "DELETE", None),
        (user(), "roles", "GET", None),
        (user(role="* /*"), "roles", "GET", None),
        (user(role="GET /users/*"), "users", "GET", SHARED),
        (user(role="PATCH /users/*"), "users", "PATCH", Equal(("_id",), ME)),
        (user(token="* /*"), "users", "GET", None),
        (user(token="GET /tokens/*"), "tokens", "GET", MINE),
        (user(admin=True), "users", "DELETE", EVERYTHING),
        (user(admin=True, token="GET /orders/*"), "users", "GET", None),
    ],
)
def test_scopes_and_grants_make_one_view(principal: Principal, store: str, method: str, where: Any) -> None:
    definition = ORDERS if store == "orders" else SYSTEM_STORES[store]
    if where is None:
        assert view_of(principal, definition, method) is None
        with pytest.raises(Forbidden):
            authorize(principal, definition, method)
        return
    view = authorize(principal, definition, method)
    assert (view.definition, view.where, view.hidden) == (definition, where, definition.hidden)
    assert view.digest == rights_digest(principal)


AMENITIES = StoreDefinition("facilities", purpose="listings.reference.amenities")
LISTINGS = StoreDefinition("places", purpose="listings.properties")
PICTURES = StoreDefinition("pictures", purpose="listings.images")
VERIFYING = frozenset({"is_verified", "is_sponsored"})


@pytest.mark.parametrize(
    ("principal", "definition", "method", "where", "readonly"),
    [
        (user(), AMENITIES, "GET", EVERYTHING, frozenset()),
        (user(role="GET /units/*"), AMENITIES, "HEAD", EVERYTHING, frozenset()),
        (user(token="GET /facilities/*"), AMENITIES, "GET", EVERYTHING, frozenset()),
        (user(token="GET /places/*"), AMENITIES, "GET", None, None),
        (user(), AMENITIES, "PATCH", None, None),
        (user(role="* /*,* /facilities/*"), AMENITIES, "POST", None, None),
        (user(admin=True), AMENITIES, "DELETE", EVERYTHING, frozenset()),
        (user(admin=True, token="GET /*"), AMENITIES, "DELETE", None, None),
        (user(), LISTINGS, "PATCH", SHARED, VERIFYING),
        (user(role="* /places/*"), LISTINGS, "GET", SHARED, VERIFYING),
        (user(role="GET /units/*"), LISTINGS, "HEAD", MINE, VERIFYING),
        (user(role="GET /places/*"), LISTINGS, "DELETE", MINE, VERIFYING),
        (user(role="GET /units/*"), PICTURES, "PUT", MINE, frozenset()),
        (user(role="GET /units/*", token="* /places/*"), LISTINGS, "POST", MINE, VERIFYING),
        (user(role="GET /units/*", token="GET /places/*"), LISTINGS, "POST", None, None),
        (user(token="GET /pictures/*"), LISTINGS, "GET", None, None),
        (user(admin=True), LISTINGS, "PATCH", EVERYTHING, frozenset()),
        (user(role="GET /units/*"), replace(LISTINGS, purpose=""), "GET", None, None),
        (user(role="GET /units/*"), replace(LISTINGS, purpose="listings.tombstones"), "GET", None, None),
    ],
)
def test_the_purpose_of_a_store_gives_rights(
    principal: Principal, definition: StoreDefinition, method: str, where: Any, readonly: Any
) -> None:
    """Whatever its name; a token narrows them."""
    view = view_of(principal, definition, method)
    assert (where, readonly) == ((None, None) if view is None else (view.where, view.readonly))


def test_a_view_refuses_paths_that_its_holder_may_not_name() -> None:
    """Refused are hidden fields, fields that only this View hides, and unknown fields of a closed store."""
    view = authorize(user(), ORDERS, "GET")
    view.check_path("name")
    view.check_path("owner")
    narrower = replace(view, hidden=frozenset({"name", "margin"}))
    for refusing, path in ((view, "margin"), (view, "margin.a"), (view, "unknown"), (narrower, "name")):
        with pytest.raises(InvalidQuery) as refused:
            refusing.check_path(path)
        assert refused.value.field == path
        assert not refusing.shows(path.partition(".")[0])
    assert (view.search_paths, narrower.search_paths) == (("name",), ())
    assert (view.whole, narrower.whole.hidden) == (ORDERS.whole, narrower.hidden)
    only = Projection((("name",),))
    assert (narrower.shown(WHOLE), narrower.shown(only)) == (narrower.whole, replace(narrower.whole, only=only.only))
    assert narrower.hidden_fields == {"name", "margin"}


INVOICES = StoreDefinition(
    "invoices",
    (
        Field("customer", "Reference", store="customers"),
        Field("watchers", "Reference", store="users", many=True),
        Field("amount", "Number"),
        Field("tags", "Text", many=True),
        Field("colours", "MultiSelect", options=((1, "Red"),)),
        Field("extra", "JSON"),
        Field("extras", "JSON", many=True),
        Field("address", "Object", fields=(Field("city", "Text"), Field("more", "JSON"))),
        Field(
            "lines",
            "Object",
            many=True,
            fields=(Field("n", "Number"), Field("product", "Reference", store="products")),
        ),
    ),
    open=False,
)
POSSIBLE = (
    "customer", "watchers.0", "tags.12", "colours.0", "extra.a.b.0", "extras.0.a", "extras.a", "address",
    "address.city", "address.more.a.b", "lines.n", "lines.3.n", "lines.product", "lines.0", "owner", "access.0",
    "branch.1", "_id",
)  # fmt: skip
BEYOND = "{} is a Reference, and a path does not reach into {}: ask {} first, or use expand"
DEAD_ENDS = {
    "customer.name": BEYOND.format("customer", "customers", "customers"),
    "customer.0": BEYOND.format("customer", "customers", "customers"),
    "watchers.0.name": BEYOND.format("watchers.0", "users", "users"),
    "lines.product.name": BEYOND.format("lines.product", "products", "products"),
    "amount.x": "amount has no fields, because its type is Number",
    "amount.0": "amount has no fields, because its type is Number",
    "tags.x": "tags has no fields, because its type is Text",
    "tags.0.0": "tags.0 has no fields, because its type is Text",
    "colours.name": "colours has no fields, because its type is MultiSelect",
    "address.zip": "address has no field 'zip'",
    "address.0": "address has no field '0'",
    "address.city.a": "address.city has no fields, because its type is Text",
    "lines.0.0": "lines.0 has no field '0'",
    "lines.0.m": "lines.0 has no field 'm'",
    "owner.name": "owner is a system field and has no fields",
    "access.name": "access is a system field and has no fields",
    "access.0.name": "access is a system field and has no fields",
    "time.0": "time is a system field and has no fields",
    "nothing.a": "invoices has no field 'nothing.a'",
}


@pytest.mark.parametrize("is_open", [False, True])
def test_a_view_refuses_paths_at_which_no_entity_has_a_value(is_open: bool) -> None:
    """An empty answer would look like an answer. In an open store, fields without a type may hold anything."""
    view = authorize(user(), replace(INVOICES, open=is_open), "GET")
    for path in POSSIBLE:
        view.check_path(path)
    for path, text in DEAD_ENDS.items():
        if is_open and path == "nothing.a":
            view.check_path(path)
            continue
        with pytest.raises(InvalidQuery) as refused:
            view.check_path(path)
        assert (refused.value.field, refused.value.message) == (path, text)


def asked(view: View, *pairs: tuple[str, str]) -> None:
    ListParameters(view, [*pairs], FilterLimits(), 100).read()


@pytest.mark.parametrize(
    "pair",
    [
        ("customer.name", "x"),
        ("customer.name[exists]", "false"),
        ("amount.x[in]", "1,2"),
        ("filter", '{"$or":[{"amount":1},{"address.zip":null}]}'),
        ("filter", '{"lines":{"$elemMatch":{"$or":[{"n":1},{"product.name":"x"}]}}}'),
        ("filter", '{"lines":{"$not":{"$elemMatch":{"m":1}}}}'),
        ("filter", '{"tags":{"$elemMatch":{"x":1}}}'),
        ("sort", "-amount,customer.name"),
        ("only", "amount,customer.name"),
        ("aggregate", "count,sum:amount.x"),
        ("aggregate", "count&by=customer.name"),
        ("aggregate", "count&by=owner.name:month"),
    ],
)
def test_no_part_of_a_request_names_such_a_path(pair: tuple[str, str]) -> None:
    """Lists, counts, delta sync, bulk changes and exports have these parameters; `subscribe` has the last two."""
    name, text = pair
    text, _, by = text.partition("&by=")
    view = authorize(user(), INVOICES, "GET")
    with pytest.raises(InvalidQuery, match=r"has no field|is a Reference|is a system field"):
        asked(view, (name, text), *([("by", by)] if by else []))
    if name in ("filter", "only"):
        filter, only = (orjson.loads(text), None) if name == "filter" else (None, text)
        with pytest.raises(InvalidQuery, match=r"has no field|is a Reference"):
            SubscribeRequest("invoices", filter, only, None, False, None).query(view, FilterLimits())


def test_conditions_on_elements_may_name_what_elements_have() -> None:
    view = authorize(user(), INVOICES, "GET")
    asked(view, ("filter", '{"lines":{"$elemMatch":{"n":1,"product":"x"}},"extras":{"$elemMatch":{"a.b":1}}}'))
    asked(view, ("filter", '{"extra":{"$elemMatch":{"_id":1,"a":{"$elemMatch":{"b":2}}}}}'))


def test_a_read_only_field_may_be_sent_as_it_is() -> None:
    view = authorize(user(), SYSTEM_STORES["users"], "PATCH")
    before = {"login": "me", "group": GROUP, "name": "a"}
    assert view.writable({"login": "me", "name": "b"}, {}, before) == {"name": "b"}
    assert view.writable({"name": "b"}, {"group": GROUP}, before) == {"name": "b"}
    assert view.writable({"login": "me", "name": "b"}, {"login": "me", "group": GROUP}, before) == {"name": "b"}
    for field, fields, body in (
        ("login", {"login": "you"}, {}),
        ("roles", {"roles": []}, {}),
        ("group", {"name": "b"}, {"group": None}),
        ("group", {"login": "me"}, {"login": "me", "group": None}),
    ):
        with pytest.raises(ReadOnlyField) as refused:
            view.writable(fields, body, before)
        assert refused.value.field == field
    assert authorize(user(admin=True), SYSTEM_STORES["users"], "PATCH").readonly == frozenset()


def test_a_view_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One View is made per principal, method and definition; a new definition of the store needs a new View."""
    made: list[str] = []
    make = policy._make_view

    def counted(principal: Principal, definition: StoreDefinition, method: str) -> View | None:
        made.append(method)
        return make(principal, definition, method)

    monkeypatch.setattr(policy, "_make_view", counted)
    principal = user(role="PATCH /orders/*")
    for _ in range(3):
        view = authorize(principal, ORDERS, "PATCH")
        assert reader_of(principal, view) is None
    assert made == ["PATCH", "GET"]
    opened = replace(ORDERS, open=True)
    assert authorize(principal, opened, "PATCH").definition is opened
    assert authorize(replace(principal), ORDERS, "PATCH") == view
    assert len(made) == 4


def test_views_that_are_kept_are_bounded() -> None:
    principal = user()
    for number in range(MOST_VIEWS + 10):
        authorize(principal, StoreDefinition(f"store{number}"), "GET")
    assert 0 < len(principal.views) <= MOST_VIEWS


def test_the_digest_tells_those_apart_who_may_see_different_entities() -> None:
    """The difference may be in any store, because a position is valid for all stores."""
    for same in (
        [user(), user(role="GET /*,POST /orders/*"), user(token="GET /orders/*"), replace(user(), login="other")],
        [user(role="* /orders/*"), user(role="GET /orders/*,PATCH /*")],
        [user(admin=True), user(admin=True, role="GET /orders/*")],
    ):
        assert len({rights_digest(principal) for principal in same}) == 1
    others = [
        user(),
        user(admin=True),
        user(admin=True, token="GET /orders/*"),
        user(role="GET /users/*"),
        user(role="GET /signins/*"),
        user(role="GET /orders/*"),
        user(role="POST /orders/*"),
        replace(user(), group=None),
        replace(user(), user_id=new_id()),
    ]
    assert len({rights_digest(principal) for principal in others}) == len(others)
