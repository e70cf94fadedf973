"""A compiled step as one HTML page that needs nothing else: `keras_triton.explain(...).html(path)`."""

from .page import render

__all__ = ["render"]
