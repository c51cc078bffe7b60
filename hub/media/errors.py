"""The errors of media.

MediaError
├── Explained       an error with a text for the sender
│   ├── BadImage    the file is no image that the hub accepts; the text says what is wrong with it
│   └── MediaBusy   images are not converted now, or this one takes more time or memory than it may
└── WorkerFailed    a defect; the log has the traceback
"""

from __future__ import annotations

from stores.bounds import Limited


class MediaError(Limited):
    """Base of the errors of media."""


class Explained(MediaError):
    """`text` is a sentence for the sender. `field` is the part of the request that has the image."""

    field = "image"

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class BadImage(Explained):
    pass


class MediaBusy(Explained):
    """The same request may succeed after `retry_after` seconds."""

    def __init__(self, text: str, retry_after: int) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class WorkerFailed(MediaError):
    pass
