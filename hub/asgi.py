"""Entry point for any ASGI server: ``uvicorn --factory hub.asgi:app``."""

from hub.app import create_app as app

__all__ = ["app"]
