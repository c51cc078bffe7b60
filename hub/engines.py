"""Chooses the engine for a database URL."""

from __future__ import annotations

from pathlib import Path

from auth.secret_key import SecretKey
from hub.settings import Settings
from stores.errors import CannotOpen
from stores.options import EngineOptions
from stores.protocol import Engine


def make_engine(settings: Settings, key: SecretKey | None = None) -> Engine:
    """Return the engine for the settings' database, not yet open. Raises CannotOpen for a URL that no engine serves.
    Without the key, positions are not sealed."""
    options = EngineOptions(
        feed_retention_hours=settings.feed_retention_hours,
        feed_retention_mb=settings.feed_retention_mb,
        sqlite_log_mb=settings.sqlite_log_mb,
        reader_threads=settings.reader_threads,
        chunk_bytes=settings.stream_chunk_bytes,
        read_timeout=settings.read_timeout,
        max_slow_reads_per_user=settings.max_slow_reads_per_user,
        max_entity_bytes=settings.max_entity_bytes,
        seal=key.cover("positions") if key else None,
    )
    url = settings.engine_url
    # Import each engine on demand: the embedded one starts without the other's driver.
    if url.startswith("sqlite:///"):
        from stores.sqlite import SQLiteEngine

        path = Path(url.removeprefix("sqlite:///"))
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise CannotOpen(f"cannot make the data folder {path.parent}: {error.strerror}") from error
        return SQLiteEngine(path, options)
    if url.startswith(("mongodb://", "mongodb+srv://")):
        from stores.mongo import MongoEngine

        return MongoEngine(url, options)
    scheme = url.partition("://")[0][:20]
    raise CannotOpen(
        f"HUB_DATABASE_URL begins with {scheme!r}: write sqlite:///path/to/file or mongodb://host/database"
    )
