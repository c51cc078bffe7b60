"""What the hub does, whatever dialect it was asked in: checks, permissions and system fields around the engine."""
