"""The reference interpreter: what a module of any stage means, on torch tensors."""

from .functions import call, check_inputs, evaluate, run

__all__ = ["call", "check_inputs", "evaluate", "run"]
