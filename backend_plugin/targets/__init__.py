"""The places a plan can run: each target turns kernel functions into executors."""

from .base import Compiled, Target, choose

__all__ = ["Compiled", "Target", "choose"]
