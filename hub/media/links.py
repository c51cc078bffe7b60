"""Signed links: addresses of private files that need no credentials until they expire."""

from __future__ import annotations

import hmac
import re
from typing import Final

from auth.secret_key import SecretKey
from stores.fields.media import URL

_PURPOSE: Final = "link to a file"
_SIGNATURE: Final = re.compile(r"([0-9]{1,16})\.([0-9a-f]{64})", re.ASCII)


class Links:
    """Makes and checks signatures, ``<Unix ms of the expiry>.<HMAC of the file's id and of the expiry>``."""

    def __init__(self, key: SecretKey) -> None:
        self._key = key

    def signed(self, file: str, expires: int) -> str:
        """Return the address of a file, with a signature that is valid until `expires` (Unix ms)."""
        return f"{URL}{file}?sig={expires}.{self._digest(file, str(expires))}"

    def expiry_of(self, file: str, signature: str) -> int:
        """Return until when (Unix ms) a signature opens a file; 0 if it was not made here, and for this file."""
        found = _SIGNATURE.fullmatch(signature)
        if found is None or not hmac.compare_digest(found[2], self._digest(file, found[1])):
            return 0
        return int(found[1])

    def _digest(self, file: str, expires: str) -> str:
        return self._key.digest(_PURPOSE, file.encode(), b"\0", expires.encode())
