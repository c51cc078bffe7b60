"""Feed positions as principals get them: a position and a digest of what its holder could see.

What changed since a position tells the whole difference only to somebody who sees by the same rule as then: a user
who was moved to another group, or another user, has to start from a fresh list.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

from auth.policy import OWN
from auth.principal import Principal
from stores.errors import HistoryGone

SEPARATOR = "~"
_NOBODY = "-"
"""In place of a digest: the sight of nobody."""


@lru_cache(maxsize=4_096)
def sight_digest(principal: Principal) -> str:
    """Short text that differs when two principals may see different entities of any store."""
    rule = (
        None if principal.admin else (principal.user_id, principal.groups),
        tuple(principal.may_administer("GET", store) for store in sorted(OWN)),
    )
    return hashlib.sha256(repr(rule).encode()).hexdigest()[:10]


def give(position: str, principal: Principal) -> str:
    """The position as text for this principal."""
    return f"{position}{SEPARATOR}{sight_digest(principal)}"


def give_in_between(position: str) -> str:
    """The position as text that nobody can take: for what is told while a sight changes. Only all of it, and the
    position that follows, make a view that can be gone on with, whatever the holder's sight is by then."""
    return f"{position}{SEPARATOR}{_NOBODY}"


def take(text: str, principal: Principal) -> str:
    """The feed position in what `give` made. Raises HistoryGone when the principal's sight is not what it was."""
    position, _, digest = text.rpartition(SEPARATOR)
    if digest != sight_digest(principal):
        raise HistoryGone("this position was given to somebody who sees other entities")
    return position
