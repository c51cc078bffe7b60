"""The operations of the listings API that write."""

from __future__ import annotations

from typing import Final

from hub.dialects.listings import images, properties, registration
from hub.dialects.listings.context import PREFIX
from hub.dialects.listings.operations import PROPERTIES, PROPERTY, PROPERTY_IMAGES, Operation

PROPERTY_IMAGE: Final = PROPERTY_IMAGES + "{img_id}/"
REGISTRATION: Final = PREFIX + "/register/"

WRITING: Final = (
    Operation("createProperty", "POST", PROPERTIES, "Create a listing", properties.create_property, "WrittenListing",
              body="NewListing", status=201),
    Operation("replaceProperty", "PUT", PROPERTY, "Update a listing, with all required fields",
              properties.replace_property, "WrittenListing", body="NewListing", errors=(404,)),
    Operation("changeProperty", "PATCH", PROPERTY, "Update some fields of a listing", properties.change_property,
              "WrittenListing", body="ListingChanges", errors=(404,)),
    Operation("deleteProperty", "DELETE", PROPERTY, "Delete a listing with its images", properties.delete_property, "",
              status=204, errors=(404,)),
    Operation("addPropertyImage", "POST", PROPERTY_IMAGES, "Add an image, as a file or by its URL", images.add_image,
              "Image", body="NewImage", status=201, errors=(404,)),
    Operation("changePropertyImage", "PATCH", PROPERTY_IMAGE, "Make an image the main one, or change its text",
              images.change_image, "Image", body="ImageChanges", errors=(404,)),
    Operation("deletePropertyImage", "DELETE", PROPERTY_IMAGE, "Remove an image", images.delete_image, "", status=204,
              errors=(404,)),
    Operation("requestRegistrationCode", "POST", REGISTRATION, "Mail a verification code to the user",
              registration.request_code, "Detail", body="CodeRequest", open=True, registers=True),
    Operation("verifyRegistrationCode", "POST", REGISTRATION + "verify/", "Exchange a code for a key that reads",
              registration.verify_code, "Registered", body="Verification", open=True, registers=True),
)  # fmt: skip
