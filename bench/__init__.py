"""Timings against other Keras backends: interleaved in one run, reported as ratios with quantiles."""
