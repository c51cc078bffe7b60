"""The operations of the listings API, except the one that describes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from hub.dialects import base
from hub.dialects.listings import account, deleted, feed, references
from hub.dialects.listings.context import PREFIX, ListingsContext

ParameterSet = Literal["none", "feed", "deleted"]


@dataclass(frozen=True, slots=True)
class Operation(base.Operation[ListingsContext]):
    """An operation with the attributes that the OpenAPI document needs.

    `result`: the schema of the answer; `many`: the answer is an array of these. `status`: that of a success. `body`:
    the schema of the body. `errors` are status codes in addition to those implied by the other attributes. A call that
    `registers` is counted by the client's address.
    """

    result: str
    many: bool = False
    parameters: ParameterSet = "none"
    status: int = 200
    body: str = ""
    registers: bool = False
    errors: tuple[int, ...] = field(default=())


TENANT: Final = PREFIX + "/{user_id}"
PROPERTIES: Final = TENANT + "/properties/"
PROPERTY: Final = PROPERTIES + "{id}/"
PROPERTY_IMAGES: Final = PROPERTY + "images/"

READING: Final = (
    Operation("showListingsRoot", "GET", PREFIX + "/", "The version and the endpoints", account.show_root, "Root",
              open=True),
    Operation("getListingsAccount", "GET", TENANT + "/account/", "The account, the key, and the number of listings",
              account.get_account, "Account"),
    Operation("listProperties", "GET", PROPERTIES, "The feed: listings, newest first", feed.list_properties, "Feed",
              parameters="feed", errors=(400, 404)),
    Operation("listDeletedProperties", "GET", PROPERTIES + "deleted/",
              "Listings that were deleted or are not published any more", deleted.list_deleted, "DeletedPage",
              parameters="deleted", errors=(400, 404)),
    Operation("getProperty", "GET", PROPERTY, "A listing", feed.get_property, "Listing", errors=(404,)),
    Operation("listPropertyImages", "GET", PROPERTY_IMAGES, "The images of a listing, the main one first",
              feed.list_images, "Image", many=True, errors=(404,)),
    Operation("listAmenities", "GET", PREFIX + "/amenities/", "Amenities", references.list_table("amenities"),
              "Amenity", many=True),
    Operation("listPropertyTypes", "GET", PREFIX + "/property-types/", "Property types",
              references.list_table("property_types"), "Named", many=True),
    Operation("listCurrencies", "GET", PREFIX + "/currencies/", "Currencies", references.list_table("currencies"),
              "Currency", many=True),
    Operation("listTenures", "GET", PREFIX + "/tenures/", "Land tenures", references.list_table("tenures"), "Named",
              many=True),
    Operation("listPlotSizeUnits", "GET", PREFIX + "/plot-size-units/", "Units of plot sizes",
              references.list_table("plot_size_units"), "Named", many=True),
    Operation("listLocations", "GET", PREFIX + "/locations/", "Regions with their districts",
              references.list_locations, "Region", many=True),
    Operation("listFilters", "GET", PREFIX + "/filters/", "The facets of the feed", references.list_facets, "Facets"),
)  # fmt: skip
