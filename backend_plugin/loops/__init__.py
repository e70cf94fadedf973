"""Loops of a captured step: one node each, however many steps they take."""
