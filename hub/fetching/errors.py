"""The errors of fetching. Their texts name the host, never an address or the query of a URL.

FetchError
├── FetchRefused        the hub may not fetch from this URL, or from the one to which it redirects
└── FetchFailed         the other server cannot be reached, or does not answer as it should
    └── AnswerTooLarge  its answer is larger than allowed

The caller decides what its own client gets to see.
"""

from __future__ import annotations

from stores.bounds import Limited


class FetchError(Limited):
    """Base of the errors of fetching."""


class FetchRefused(FetchError):
    pass


class FetchFailed(FetchError):
    """`status` is that of the answer, if one came: a receiver may have accepted what its answer does not show."""

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


class AnswerTooLarge(FetchFailed):
    pass
