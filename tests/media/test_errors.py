"""The errors of media as every API answers them."""

from __future__ import annotations

from http import HTTPStatus

from hub.http.errors import describe
from hub.media.errors import BadImage, MediaBusy, WorkerFailed


def test_a_file_that_is_no_image_is_the_senders_fault() -> None:
    failure = describe(BadImage("The file is empty."))
    assert (failure.status, failure.errors) == (HTTPStatus.BAD_REQUEST, {"image": ["The file is empty."]})


def test_the_part_of_the_request_that_has_the_image_can_be_named() -> None:
    error = BadImage("The file is empty.")
    error.field = "photo"
    assert describe(error).errors == {"photo": ["The file is empty."]}


def test_a_busy_hub_says_when_to_try_again() -> None:
    failure = describe(MediaBusy("Too many images wait.", 7))
    assert (failure.status, failure.headers) == (HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": "7"})
    assert failure.errors == {"image": ["Too many images wait."]}


def test_a_defect_is_a_500() -> None:
    assert describe(WorkerFailed("no")).status == HTTPStatus.INTERNAL_SERVER_ERROR
