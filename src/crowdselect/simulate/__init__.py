"""Simulated pools whose truth is known: for the demo, for tests and for benchmarks."""
