"""Answers in the platform API's format."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from email.utils import formatdate
from typing import Any, Final

import orjson

from auth.positions import bind
from hub.http.answer import Answer, json_answer
from hub.http.buffered_answer import BufferedAnswer
from hub.http.call import HOST_COOKIE, SESSION_COOKIE, Call
from hub.http.errors import Failure, status_text
from hub.http.proxies import PREFIX
from hub.http.write_answer import WriteAnswer
from hub.services.delta import Delta
from realtime.change_view import ViewChange
from realtime.events import commit_members
from stores.aggregation import Aggregated, Aggregation, Group, Value
from stores.records import HistoryEntry

SUCCESS = b'{"success":true,'

ENTITIES: Final = SUCCESS + b'"entities":['

RESPONSES: Final = SUCCESS + b'"responses":['

ID_BEGINS: Final = b'{"_id":"'

LONG: Final = 1_048_576
"""Bytes. Longer answers are sent in pieces."""

PIECE: Final = 262_144


def etag(rev: int) -> bytes:
    return b'"%d"' % rev


def entity_answer(text: bytes, rev: int | None = None) -> Answer:
    """Return an entity's JSON text with ``"success":true`` inserted before its fields."""
    headers = [(b"etag", etag(rev))] if rev is not None else []
    return Answer(SUCCESS + text[1:], headers=headers)


def written_answer(text: bytes, rev: int) -> Answer:
    """Return the answer to a write of one entity."""
    body = SUCCESS + text[1:]
    return WriteAnswer(
        body=body, headers=[(b"etag", etag(rev))], size=len(body), brief=lambda: SUCCESS + _reference(text, rev)[1:]
    )


def array_answer(written: list[tuple[bytes, int]], timeout: float) -> Answer:
    """Return the answer to a write of several entities, with their texts and revisions. A long answer is cut off after
    `timeout` seconds."""
    texts = [text for text, _ in written]
    size = sum(map(len, texts))
    body = _pieces(texts, ENTITIES, b"]}") if size > LONG else _joined(texts)
    return WriteAnswer(
        body=body, timeout=timeout, size=size, brief=lambda: _joined([_reference(text, rev) for text, rev in written])
    )


def _joined(texts: list[bytes]) -> bytes:
    return ENTITIES + b",".join(texts) + b"]}"


def _reference(text: bytes, rev: int) -> bytes:
    """Return id and revision of an entity as JSON text. The text of an entity begins with the id, so it is not parsed:
    it may have megabytes."""
    if not text.startswith(ID_BEGINS):
        return orjson.dumps({"_id": orjson.loads(text)["_id"], "_rev": rev})
    return b'%s,"_rev":%d}' % (text[: text.index(b'"', len(ID_BEGINS)) + 1], rev)


def batch_answer(written: list[tuple[bytes, int]], timeout: float) -> Answer:
    """Return the answer to a batch: what each of its requests would have been answered alone."""
    texts = [_response(text) for text, _ in written]
    size = sum(map(len, texts))
    body = _pieces(texts, RESPONSES, b"]}") if size > LONG else RESPONSES + b",".join(texts) + b"]}"

    def brief() -> bytes:
        return RESPONSES + b",".join(_response(_reference(text, rev)) for text, rev in written) + b"]}"

    return WriteAnswer(body=body, timeout=timeout, size=size, brief=brief)


def _response(text: bytes) -> bytes:
    return b'{"status":200,"body":' + SUCCESS + text[1:] + b"}"


def expanded_answer(text: bytes, timeout: float) -> Answer:
    """Return the answer to the reading of one entity with what it refers to. It has no ETag: it changes when they
    change."""
    body = SUCCESS + text[1:] if len(text) <= LONG else _pieces([text[1:]], SUCCESS, b"")
    return BufferedAnswer(body=body, timeout=timeout, size=len(text))


def expanded_list_answer(listed: bytes | list[bytes], headers: list[tuple[bytes, bytes]], timeout: float) -> Answer:
    """Return a list of entities with what they refer to: the JSON array, or the texts of the entities."""
    if isinstance(listed, bytes):
        return BufferedAnswer(body=listed, headers=headers, timeout=timeout, size=len(listed))
    size = sum(map(len, listed)) + len(listed)
    body = b"[" + b",".join(listed) + b"]" if size <= LONG else _pieces(listed, b"[", b"]")
    return BufferedAnswer(body=body, headers=headers, timeout=timeout, size=size)


async def _pieces(texts: list[bytes], before: bytes, after: bytes) -> AsyncIterator[bytes]:
    """Yield texts, with commas between them, in pieces: no piece is much larger than PIECE, whatever a text has."""
    piece, size = [before], 0
    for number, text in enumerate(texts):
        if number:
            piece.append(b",")
        for start in range(0, len(text), PIECE):
            part = text[start : start + PIECE]
            piece.append(part)
            size += len(part)
            if size >= PIECE:
                yield b"".join(piece)
                piece, size = [], 0
    if piece or after:
        yield b"".join(piece) + after


def summary_answer(count: int, first: bytes | None, last: bytes | None, position: str) -> Answer:
    ends = b'"first":' + (first or b"null") + b',"last":' + (last or b"null")
    return Answer(SUCCESS + b'"count":%d,' % count + ends + b"}", headers=[position_header(position)])


def groups_text(aggregation: Aggregation, found: Aggregated) -> bytes:
    groups = [_group(aggregation, group) for group in found.groups]
    return orjson.dumps({"success": True, "groups": groups, "position": found.position})


def _group(aggregation: Aggregation, group: Group) -> dict[str, Any]:
    """Return a group: ``{"by": {"status": "open"}, "count": 12, "sum": {"amount": 1250.33}}``."""
    shown: dict[str, Any] = {"by": {d.name: value for d, value in zip(aggregation.by, group.by, strict=True)}}
    for measure, value in zip(aggregation.measures, group.values, strict=True):
        if measure.path:
            shown.setdefault(measure.function, {})[".".join(measure.path)] = _exact(value)
        else:
            shown[measure.function] = value
    return shown


def _exact(value: Value) -> Any:
    """Return a value for JSON text, in which numbers have all their digits."""
    if isinstance(value, Decimal):
        return orjson.Fragment(format(value, "f").encode())
    if type(value) is int and not -(2**63) <= value < 2**63:
        return orjson.Fragment(b"%d" % value)
    return value


def position_header(position: str) -> tuple[bytes, bytes]:
    return b"x-position", position.encode()


def count_answer(count: int | None) -> Answer:
    """Return the answer to a bulk change, without the count if the writer may not read it."""
    return json_answer({"success": True} if count is None else {"success": True, "count": count})


def delta_answer(delta: Delta) -> Answer:
    changes = [view_change(change, delta.digest) for change in delta.changes]
    body = {"success": True, "changes": changes, "position": delta.position, "more": delta.more}
    return json_answer(body, headers=[position_header(delta.position)])


def view_change(event: ViewChange, digest: str) -> dict[str, Any]:
    """Return a change as delta sync shows it. A removal shows only the entity's id."""
    return {
        "op": event.op,
        "_id": event.change.id,
        "entity": event.entity,
        "_rev": event.rev,
        "time": event.change.time,
        "position": bind(event.change.position, digest),
        **commit_members(event),
    }


def history_text(entries: list[HistoryEntry]) -> bytes:
    return orjson.dumps({"success": True, "history": [history_entry(entry) for entry in entries]})


def history_entry(entry: HistoryEntry) -> dict[str, Any]:
    changes = {name: {"old": old, "new": new} for name, (old, new) in entry.changed.items()}
    return {"time": entry.time, "by": entry.by, "op": entry.op, "_rev": entry.rev, "changes": changes}


def session_cookie(call: Call, credential: str, expires_at: int, *, foreign: bool = False) -> tuple[bytes, bytes]:
    """Return the Set-Cookie header of a session.

    `expires_at` is in Unix ms. `foreign` is set for a page of another site, for which browsers send the cookie only
    over https. The host-bound name needs https and a hub that is published without a path prefix.
    """
    name = HOST_COOKIE if call.secure and not call.scope.get(PREFIX) else SESSION_COOKIE
    return _cookie(call, name, credential, expires_at, "None" if foreign and call.secure else "Lax")


def forgotten_cookies(call: Call) -> list[tuple[bytes, bytes]]:
    """Return the headers that make the browser drop the session cookie, under each of its possible names."""
    both = call.secure and not call.scope.get(PREFIX)
    return [
        _cookie(call, name, "", 0, "Lax") for name in ((HOST_COOKIE, SESSION_COOKIE) if both else (SESSION_COOKIE,))
    ]


def _cookie(call: Call, name: bytes, value: str, expires_at: int, same_site: str) -> tuple[bytes, bytes]:
    path, expires = call.scope.get(PREFIX, "") + "/", formatdate(expires_at / 1000, usegmt=True)
    text = f"={value}; Path={path}; Expires={expires}; HttpOnly; SameSite={same_site}"
    return b"set-cookie", name + (text + "; Secure" if call.secure else text).encode()


def failure_answer(failure: Failure) -> Answer:
    """Return the error in the platform's envelope: `code` is a string, `tags` are stable, `errors` explain the
    mistakes."""
    body: dict[str, Any] = {
        "success": False,
        "code": str(failure.status.value),
        "message": status_text(failure.status),
        "tags": failure.tags,
    }
    if failure.errors:
        body["errors"] = {printable(name): texts for name, texts in failure.errors.items()}
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in failure.headers.items()]
    return Answer(orjson.dumps(body), failure.status, headers)


def printable(text: str) -> str:
    """Return a name from a caller, shortened, with escapes for characters that UTF-8 cannot encode."""
    return text[:500].encode("utf-8", "backslashreplace").decode()
