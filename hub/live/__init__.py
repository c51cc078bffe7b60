"""The gateway between live clients and the services."""
