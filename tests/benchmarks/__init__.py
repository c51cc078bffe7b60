"""Tests of the benchmarks: that they run and show every figure, never how fast."""
