"""Helpers of `dev.py`, the tests and the benchmarks: environment, host server, workflow client."""
