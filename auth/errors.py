"""Why a caller is turned away, as one tree.

AuthError
├── Unauthenticated     no credentials, or none that are (still) valid
│   └── CodeRequired    the password is right, and a one-time code is missing or wrong
├── Forbidden           known, but not allowed to do this
│   ├── CrossSite       a cookie that another site's page has sent along
│   └── TooNarrow       a token would give a right that it does not have itself
└── TooManyAttempts     too many logins for this name or from this address
"""

from __future__ import annotations

from stores.bounds import Limited


class AuthError(Limited):
    """Base of everything that turns a caller away."""


class Unauthenticated(AuthError):
    pass


class CodeRequired(Unauthenticated):
    pass


class Forbidden(AuthError):
    pass


class CrossSite(Forbidden):
    pass


class TooNarrow(Forbidden):
    """`field` is what the caller sent, `scope` the right that the token does not have."""

    def __init__(self, field: str, scope: str) -> None:
        self.field = field
        self.text = f"A long-lived token cannot do this for rights that it does not have itself: {scope}."
        super().__init__(f"{field}: {self.text}")


class TooManyAttempts(AuthError):
    """`retry_after`: whole seconds until another attempt is taken."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"too many attempts; try again in {retry_after} s")
        self.retry_after = retry_after
