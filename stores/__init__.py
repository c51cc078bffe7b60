"""Engines and their change feeds: they store entities and yield ordered changes. Independent of HTTP, users and
sockets."""
