"""Benchmarks against other backends."""
