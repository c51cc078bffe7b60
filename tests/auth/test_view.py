"""Views: the visibility and permissions of one principal in one store."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from auth import policy
from auth.errors import Forbidden, ReadOnlyField
from auth.policy import MOST_VIEWS, authorize, reader_of, rights_digest, view_of
from auth.principal import Principal
from auth.system_stores import SYSTEM_STORES
from auth.view import View
from stores.errors import InvalidQuery
from stores.query import EVERYTHING, WHOLE, Equal, In, Or, Projection
from stores.records import new_id
from stores.schema import Field, StoreDefinition
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


def test_a_view_refuses_paths_that_its_holder_may_not_name() -> None:
    """Refused are hidden fields, fields that only this View hides, and unknown fields of a closed store."""
    view = authorize(user(), ORDERS, "GET")
    view.check_path("name.a")
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
    same = [user(), user(role="GET /orders/*"), user(token="GET /orders/*"), replace(user(), login="other")]
    assert len({rights_digest(principal) for principal in same}) == 1
    others = [
        user(),
        user(admin=True),
        user(admin=True, token="GET /orders/*"),
        user(role="GET /users/*"),
        user(role="GET /signins/*"),
        replace(user(), group=None),
        replace(user(), user_id=new_id()),
    ]
    assert len({rights_digest(principal) for principal in others}) == len(others)
