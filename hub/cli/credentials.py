"""What the commands for tokens and for keys share: how their expiry is given and shown, and how they are revoked."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from hub.cli.client import Client
from hub.cli.command import confirm
from hub.cli.output import Failure, Misuse, say
from stores.records import is_id, now_ms

UNITS: Final = {"h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
"""Units of a duration, in milliseconds."""


async def revoke_credential(client: Client, credential: str, known_as: str, yes: bool) -> None:
    """Revoke a `credential`, a token or a key, that is given by its id or name. Raises Failure."""
    id = known_as if is_id(known_as) else await the_only(client, credential, known_as)
    confirm(f"Revoke the {credential} {known_as}?", yes)
    await client.call("DELETE", f"/{credential}s/{id}")
    say(f"{credential} {known_as} revoked")


async def the_only(client: Client, credential: str, name: str) -> str:
    """Return the id of the only `credential`, a token or a key, with this name. Raises Failure."""
    found = [each["_id"] for each in await client.all(f"{credential}s") if each["name"] == name]
    if len(found) > 1:
        raise Failure(f"{len(found)} {credential}s are called {name}: give the id of one: {', '.join(found)}")
    if not found:
        raise Failure(f"no {credential} with the name {name!r}")
    return str(found[0])


def ending(expires: object) -> str:
    """Return when a token or key expires, or that it has expired."""
    over = isinstance(expires, int) and expires <= now_ms()
    return f"{day(expires)}, expired" if over else day(expires)


def day(time: object) -> str:
    """Return Unix milliseconds as a date; other values as text."""
    if isinstance(time, int):
        return datetime.fromtimestamp(time / 1000, UTC).strftime("%Y-%m-%d %H:%M")
    return str(time or "")


def parse_expiry(text: str) -> int:
    """Return Unix milliseconds for ``30d`` or ``2027-01-31`` (UTC)."""
    duration = re.fullmatch(r"(\d{1,5})([hdw])", text)
    if duration:
        return now_ms() + int(duration[1]) * UNITS[duration[2]]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Misuse(f"--expires {text}: give a duration such as 30d, or a date such as 2027-01-31") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
