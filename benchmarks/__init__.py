"""Measurements of speed and memory, each beside a check that the numbers are the same: ``python -m benchmarks``."""
