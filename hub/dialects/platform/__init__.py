"""The platform API, `/api/v1`: entities of every store, authentication, delta sync."""
