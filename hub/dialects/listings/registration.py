"""Registration: users get a key that reads by a code that is mailed to them. Neither step needs a key, and no answer
tells whether a user exists."""

from __future__ import annotations

import logging
from typing import Annotated, Final

from auth.errors import TooManyAttempts
from hub.dialects.listings.access import check_registrations
from hub.dialects.listings.bodies import received
from hub.dialects.listings.context import ListingsContext
from hub.dialects.listings.cross_origin import refuse_pages
from hub.dialects.listings.errors import Malformed, Throttled
from hub.dialects.listings.serializers import CODE_REQUEST, VERIFICATION, Serializer, Values
from hub.http.answer import Answer, json_answer
from hub.http.call import Call
from hub.http.errors import BadRequest
from stores.bounds import Limit
from stores.errors import Conflict, InvalidEntity

log = logging.getLogger(__name__)

MOST_REGISTRATION_BYTES: Final[Annotated[int, Limit("call to register", "bytes", "413")]] = 16_384

SENT: Final = "If the account exists, a verification code has been emailed."
NOT_VERIFIED: Final = "Invalid or expired code."
SHOWN_ONCE: Final = "Store this key now — it will not be shown again. Use user_id in all /v1/<user_id>/... requests."


async def request_code(context: ListingsContext, call: Call) -> Answer:
    values = await _values(context, call, CODE_REQUEST)
    try:
        await context.registration.request_code(values["username"], call.address)
    except TooManyAttempts as full:
        raise Throttled(full.retry_after).at(full.limit_name) from full
    return json_answer({"detail": SENT})


async def verify_code(context: ListingsContext, call: Call) -> Answer:
    values = await _values(context, call, VERIFICATION)
    name = values["api_key_name"]
    try:
        key, user = await context.registration.verify(values["username"], values["code"], name)
    except BadRequest as refusal:
        raise Malformed(NOT_VERIFIED) from refusal
    except (InvalidEntity, Conflict) as refusal:  # too many keys, or an administrator must prepare the API first
        log.warning("a registered user got no key: %s", refusal)
        raise Malformed(NOT_VERIFIED) from refusal
    answer = {
        "user_id": user["number"],
        "username": user["login"],
        "key": key,
        "scope": "R",
        "name": name,
        "detail": SHOWN_ONCE,
    }
    return json_answer(answer)


async def _values(context: ListingsContext, call: Call, serializer: Serializer) -> Values:
    """Return the values of a body, after the request has been counted."""
    refuse_pages(call)
    await check_registrations(context, call)
    async with received(context, call, most_bytes=MOST_REGISTRATION_BYTES) as body:
        return serializer.validate(body)
