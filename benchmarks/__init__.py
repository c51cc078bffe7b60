"""Benchmarks of real hub processes.

See `python -m benchmarks.rest --help`; docs/performance.md explains the figures.
"""
