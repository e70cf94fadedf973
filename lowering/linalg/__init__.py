"""`keras` ops as linalg: scalar bodies, the rules that make them, and their text."""

from . import erfinv, lookup, random, rules  # noqa: F401  (register the rules)
