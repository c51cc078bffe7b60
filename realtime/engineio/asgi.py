"""One HTTP exchange over ASGI: reads the body of a request within its limit, and sends a response or a refusal."""

from __future__ import annotations

from realtime.engineio import http
from realtime.engineio.http import Headers, Refused, Response
from realtime.engineio.wire import Receive, Scope, Send


class BodyTooLarge(Exception):
    """The body of the request is larger than allowed."""


class HungUp(Exception):
    """The client disconnected before its request was complete."""


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """Return the body of a request. Raises BodyTooLarge beyond `limit` bytes, and HungUp."""
    length = http.header(scope, b"content-length")
    if length is not None and int(length) > limit:
        raise BodyTooLarge
    body = bytearray()
    more = True
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise HungUp
        body += event.get("body", b"")
        more = event.get("more_body", False)
        if len(body) > limit:
            raise BodyTooLarge
    return bytes(body)


async def respond(send: Send, response: Response | None) -> None:
    """Send a response. Do nothing if there is none, because the client has disconnected."""
    if response is None:
        return
    try:
        await send({"type": "http.response.start", "status": response.status, "headers": response.headers})
        if response.on_sent is None:
            await send({"type": "http.response.body", "body": response.body})
        else:
            await send({"type": "http.response.body", "body": response.body, "more_body": True})
            await send({"type": "http.response.body", "body": b""})  # waits until the client has read most of it
    finally:
        if response.on_sent is not None:
            response.on_sent()


async def reject(scope: Scope, send: Send, refused: Refused) -> None:
    """Refuse a WebSocket with an error."""
    response = http.error_response(refused)
    await refuse_websocket(scope, send, response.status, response.headers, response.body)


async def refuse_websocket(scope: Scope, send: Send, status: int, headers: Headers, body: bytes) -> None:
    """Refuse a WebSocket with an HTTP response, or without one if the ASGI server cannot send it."""
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close"})
        return
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})
