"""The hub's services, independent of dialects: checks, permissions and system fields around the engine."""
