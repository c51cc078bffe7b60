"""Engines and their change feeds: entities in, ordered changes out. Knows nothing of HTTP, users or sockets."""
