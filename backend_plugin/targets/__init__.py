"""The places a plan can run: each target turns kernel functions into executors."""
