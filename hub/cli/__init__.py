"""The hub's command line. Most commands are REST clients with a single code path: requests to /api/v1."""
