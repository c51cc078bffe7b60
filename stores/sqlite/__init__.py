"""The embedded engine: one SQLite file."""

from stores.sqlite.engine import SQLiteEngine

__all__ = ["SQLiteEngine"]
