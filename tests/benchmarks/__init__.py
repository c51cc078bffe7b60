"""Tests that the benchmarks run and show every figure, regardless of speed."""
