"""For an ASGI server of your own: ``uvicorn --factory hub.asgi:app``."""

from hub.app import create_app as app

__all__ = ["app"]
