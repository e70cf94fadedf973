"""Modules that MLIR's bindings import for the ops of a dialect, before they look in `mlir.dialects`."""
