"""The command line of the hub: a REST client with exactly one code path, requests against /api/v1."""
