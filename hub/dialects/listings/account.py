"""The account that a key belongs to, and the root of the API."""

from __future__ import annotations

from typing import Any, Final

from auth.errors import Unauthenticated
from auth.principal import Principal
from hub.dialects.listings.access import holder_of
from hub.dialects.listings.context import PREFIX, ListingsContext
from hub.dialects.listings.cross_origin import allow_any_page
from hub.dialects.listings.links import base_of
from hub.dialects.listings.reading import owned
from hub.http.answer import Answer, json_answer
from hub.http.call import Call
from stores.query import Equal, Query

VERSION: Final = "v1"
FREE: Final = "free"

ENDPOINTS: Final = {
    "register": "/register/",
    "register_verify": "/register/verify/",
    "account": "/{user_id}/account/",
    "properties": "/{user_id}/properties/",
    "property": "/{user_id}/properties/{id}/",
    "property_images": "/{user_id}/properties/{id}/images/",
    "property_image": "/{user_id}/properties/{id}/images/{img_id}/",
    "deleted_properties": "/{user_id}/properties/deleted/",
    "amenities": "/amenities/",
    "property_types": "/property-types/",
    "currencies": "/currencies/",
    "tenures": "/tenures/",
    "plot_size_units": "/plot-size-units/",
    "locations": "/locations/",
    "filters": "/filters/",
    "openapi": "/openapi.json",
}
"""The endpoints that the root lists, by name, as templates of paths below the prefix."""


async def show_root(context: ListingsContext, call: Call) -> Answer:
    allow_any_page(call)
    base = base_of(context, call) + PREFIX
    return json_answer({"version": VERSION, "endpoints": {name: base + path for name, path in ENDPOINTS.items()}})


async def get_account(context: ListingsContext, call: Call, principal: Principal) -> Answer:
    holder = holder_of(call)
    users = await context.engine.entities("users", Query(Equal(("_id",), principal.user_id), limit=1))
    if not users:
        raise Unauthenticated("the user is gone")
    [user] = users
    view = context.registry.authorized(principal, context.stores.names().properties)
    summary = await context.engine.summarize(view.store, owned(view, principal.user_id))
    account: dict[str, Any] = {
        "id": holder.number,
        "username": user.get("login") or "",
        "email": user.get("email") or "",
        "subscription_tier": user.get("subscription_tier") or FREE,
        "key": {
            "name": holder.key.name,
            "scope": holder.key.scope,
            "allowed_origins": sorted(holder.key.origins),
        },
        "properties_count": summary.count,
    }
    return json_answer(account)
