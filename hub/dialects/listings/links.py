"""Absolute addresses of this API, as its clients see them."""

from __future__ import annotations

from urllib.parse import urlencode

from hub.dialects.listings.context import ListingsContext
from hub.http.call import Call
from hub.http.proxies import PREFIX


def base_of(context: ListingsContext, call: Call) -> str:
    """Return the address of the hub, without a slash at its end: `HUB_PUBLIC_URL`, or the one that the call was sent
    to."""
    public = context.settings.public_url
    return public.rstrip("/") if public else f"{call.scheme}://{call.host}{call.scope.get(PREFIX, '')}"


def with_cursor(context: ListingsContext, call: Call, cursor: str) -> str:
    """Return the address of the call with another cursor. The other parameters stay, in the order of their names, as in
    `rest_framework.utils.urls.replace_query_param`."""
    values: dict[str, list[str]] = {}
    for name, value in call.parameters():
        values.setdefault(name, []).append(value)
    values["cursor"] = [cursor]
    query = urlencode(sorted(values.items()), doseq=True)
    return f"{base_of(context, call)}{call.scope['path']}?{query}"
