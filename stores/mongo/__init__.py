"""The MongoDB engine: it uses a replica set through PyMongo's async API, and its change stream as the feed."""

from stores.mongo.engine import MongoEngine

__all__ = ["MongoEngine"]
