"""Errors that reject a caller.

AuthError
├── Unauthenticated     no credential, or one that is not valid (any more)
│   ├── CodeRequired    the password is right, but the one-time code is missing or wrong
│   └── MissingScheme   the Authorization header is a token without a scheme before it
├── Forbidden           the caller is known, but may not do this
│   ├── CrossSite       a malformed Origin header
│   └── Explained       refused for a reason that `errors` gives, not for a missing right
│       ├── ForeignPage     a page of another site sent the cookie
│       ├── ReadOnlyField   the caller may not change this field
│       └── TooNarrow       a token would grant a right that it does not have itself
└── TooManyAttempts     too many logins for this name or from this address
"""

from __future__ import annotations

from stores.bounds import Limited


class AuthError(Limited):
    """Base of all errors that reject a caller."""


class Unauthenticated(AuthError):
    pass


class CodeRequired(Unauthenticated):
    pass


class MissingScheme(Unauthenticated):
    pass


class Forbidden(AuthError):
    pass


class CrossSite(Forbidden):
    pass


class Explained(Forbidden):
    """A refusal with a reason for the caller: `field` names the part of the request that `text` is about. A missing
    right has none."""

    def __init__(self, field: str, text: str) -> None:
        self.field = field
        self.text = text
        super().__init__(f"{field}: {text}")


class ForeignPage(Explained, CrossSite):
    def __init__(self) -> None:
        super().__init__("Origin", "A cookie counts only on pages of the hub and of HUB_TRUSTED_ORIGINS.")


class ReadOnlyField(Explained):
    """`field` is the field that the caller may not change."""

    def __init__(self, field: str, store: str) -> None:
        super().__init__(field, f"Only an administrator can change this field of {store}.")


class TooNarrow(Explained):
    """`field` is the field that the caller sent, `scope` the right that the token does not have."""

    def __init__(self, field: str, scope: str) -> None:
        text = f"A long-lived token cannot do this for rights that it does not have itself: {scope}."
        super().__init__(field, text)


class TooManyAttempts(AuthError):
    """`retry_after`: whole seconds until another attempt is accepted."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"too many attempts; try again in {retry_after} s")
        self.retry_after = retry_after
