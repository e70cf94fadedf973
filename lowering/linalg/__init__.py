"""`keras` ops as linalg: scalar bodies, the rules that make them, and their text."""
