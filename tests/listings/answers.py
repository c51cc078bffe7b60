"""Answers that many tests expect."""

from __future__ import annotations

import time

import httpx

NOT_PERMITTED = {"detail": "This API key is not permitted for this tenant or action."}
NO_ENDPOINT = {"detail": "No such API endpoint."}
NOT_FOUND = {"detail": "Not found."}
NO_KEY = {"detail": "Authentication credentials were not provided."}
INVALID_KEY = {"detail": "Invalid API key."}
INVALID_CURSOR = {"detail": "Invalid cursor"}


def check(answer: httpx.Response, status: int, body: object) -> None:
    assert (answer.status_code, answer.json()) == (status, body)
    assert answer.headers["content-type"] == "application/json"


def check_wait(answer: httpx.Response, seconds: int, began: float) -> int:
    """Check that a caller who is refused may go on `seconds` after its first request; return the seconds that are left.
    `began`: `time.monotonic()` before that request."""
    assert answer.status_code == 429
    wait = int(answer.headers["retry-after"])
    assert began + seconds - time.monotonic() - 1 < wait <= seconds
    return wait
