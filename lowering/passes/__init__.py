"""The passes of the pipeline, one a file."""
