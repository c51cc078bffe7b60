"""Benchmarks of real hub processes. `python -m benchmarks.rest --help`; docs/performance.md explains the figures."""
