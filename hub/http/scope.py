"""Keys of the ASGI scope that the hub's own server, the middleware and the dialects share."""

from __future__ import annotations

WHOLE_ANSWER = "hub.response"
"""ASGI extension of the hub's own server: head and body in one message with `status`, `headers` and `body`."""

BODY = "hub.body"
"""Scope key for a body that the hub's own server has received completely before it calls the application. Reading it
needs no timeout (measured: a timeout that never fires costs 10 µs)."""

CHARGE = "hub.charge"
"""Scope key of the function that counts bytes held for a request. It raises Overloaded beyond the limit."""

RELEASE = "hub.release"
"""Scope key of the function that gives back bytes which are not held any more. The end of the answer gives back the
rest."""

PEER = "hub.peer"
"""Scope key of the `hub.http.connections.Peer` that the hub's own server counts the connection for."""

LIMIT_REACHED = "hub.limit"
"""Scope key for the name of the limit that a request has reached."""

CACHING = "hub.caching"
"""Scope key of the `Cache-Control` header of an answer that is not for the caller alone."""

MADE = "hub.made"
"""Scope key of a write that has been made, so that its answer must not be refused."""

FOR_PAGES = "hub.pages"
"""Scope key of the headers for pages of other origins, which a dialect sets to replace those of the middleware."""
