"""Searches, one algorithm a file, by name."""

from .exhaustive import Exhaustive
from .random import Random

SEARCHES = {search.name: search for search in (Exhaustive, Random)}
