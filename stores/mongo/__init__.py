"""The MongoDB engine: a replica set through PyMongo's async API, its change stream as the feed."""

from stores.mongo.engine import MongoEngine

__all__ = ["MongoEngine"]
