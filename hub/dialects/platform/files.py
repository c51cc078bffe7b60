"""Operations on the files of entities: upload, remove, and get a link."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

from starlette.datastructures import UploadFile

from auth.principal import Principal
from hub.dialects.base import has_changed
from hub.dialects.forms import MULTIPART, FormLimits, media_type, read_form
from hub.dialects.platform import answers
from hub.dialects.platform.bodies import entity_body, parse_json, read_json
from hub.dialects.platform.conditions import expected_revisions
from hub.dialects.platform.context import PlatformContext
from hub.dialects.platform.parameters import known_parameters
from hub.http.answer import Answer, json_answer
from hub.http.body import BodyLimit
from hub.http.call import Call
from hub.http.errors import BadRequest, BodyTooLarge
from hub.http.proxies import PREFIX
from hub.media.files import Upload, UploadTarget, too_large
from hub.media.incoming import copy
from hub.services.credentials import refuse
from hub.services.token_terms import checked_expiry
from stores.bounds import Limit
from stores.records import now_ms
from stores.threads import in_thread

LINK_SECONDS: Final = 3_600
"""Seconds for which a link opens a file if the request does not say."""
LONGEST_LINK: Final[Annotated[int, Limit("link to a file", "seconds", "400")]] = 604_800
FORM_BYTES: Final = 65_536
"""Bytes of a form around its file."""


async def upload(context: PlatformContext, call: Call, principal: Principal) -> Answer:
    known_parameters(call.parameters(), ())
    path, revs = call.path, expected_revisions(call)
    files = context.media.files
    target = await files.target(principal, path["store"], path["id"], path["field"])
    async with files.arriving(principal.user_id) as arriving:
        if media_type(call) == MULTIPART:
            sent = await _from_form(context, call, target, arriving)
        else:
            sent = await files.fetch(target, _url_of(await read_json(context, call)), arriving)
        async with files.ready(target, sent) as ready:
            present = partial(_target_now, context, call, target)
            text, rev, url = await files.attach(target, ready, revs, present)
    answer = answers.written_answer(text, rev)
    answer.headers = [*answer.headers, (b"location", (call.scope.get(PREFIX, "") + url).encode())]
    return answer


async def _from_form(context: PlatformContext, call: Call, target: UploadTarget, path: Path) -> Upload:
    """Return the file in the part `file` of a form. It has arrived on the disk, and not in memory."""
    most = BodyLimit(target.most_bytes + FORM_BYTES, name="media_max_bytes")
    limits, seconds = FormLimits(most, fields=10, files=1), context.settings.media_upload_timeout
    resolve, name = context.resolver.resolve, "media_upload_timeout"
    try:
        async with read_form(call, limits, seconds, resolve, timeout_name=name) as form:
            part = form.get("file")
            if not isinstance(part, UploadFile):
                raise BadRequest("file", "Send the file as the part file of a form (multipart/form-data).")
            await in_thread(copy, part.file, path)
            return Upload(path, part.filename, part.content_type)
    except BodyTooLarge as error:
        raise too_large(target) from error


async def _target_now(context: PlatformContext, call: Call, target: UploadTarget) -> UploadTarget:
    """Return the target for the caller's present rights, after a file has arrived and been converted. Raises
    Unauthenticated, Forbidden and NotFound if the caller has lost them."""
    if call.caller is None or not await has_changed(call, context.resolver.resolve):
        return target
    principal = await context.resolver.resolve(call.caller[0])
    return await context.media.files.target(principal, target.view.store, target.id, target.field.id)


def _url_of(body: Any) -> str:
    url = entity_body(body).get("url")
    if not isinstance(url, str) or len(body) != 1:
        raise BadRequest("url", 'Send {"url": "https://…"}, or a form (multipart/form-data) with the part file.')
    return url


async def remove(context: PlatformContext, call: Call, principal: Principal) -> Answer:
    known_parameters(call.parameters(), ())
    path, revs = call.path, expected_revisions(call)
    text, rev = await context.media.files.detach(
        principal, path["store"], path["id"], path["field"], path["file"], revs
    )
    return answers.written_answer(text, rev)


async def link(context: PlatformContext, call: Call, principal: Principal) -> Answer:
    known_parameters(call.parameters(), ())
    raw = await context.read(call)
    body = entity_body(await parse_json(context, call, raw)) if raw else {}
    if unknown := body.keys() - {"expires"}:
        raise BadRequest(min(unknown), "Send expires alone.")
    expires = _expiry(body.get("expires"))
    path = call.path
    file = path.get("file") or path["field"]  # the name of the field may be left out
    url = await context.media.files.link(principal, path["store"], path["id"], file, expires)
    return json_answer({"success": True, "url": url, "expires": expires})


def _expiry(expires: Any) -> int:
    """Return when a link ends, in Unix ms. It is given like the end of a token, or as a number of seconds, which is
    too small for a time to come. Raises InvalidEntity."""
    now = now_ms()
    if expires is None:
        return now + LINK_SECONDS * 1000
    if type(expires) is int and 0 < expires <= LONGEST_LINK:
        return now + expires * 1000
    at = checked_expiry(expires)
    assert at is not None
    if at > now + LONGEST_LINK * 1000:
        raise refuse("expires", f"Must not be more than {LONGEST_LINK} seconds from now.")
    return at
