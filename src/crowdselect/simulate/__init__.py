"""Simulated pools with known ground truth: for the demo, for tests and for benchmarks."""
