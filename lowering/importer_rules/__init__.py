"""Rules that turn aten ops into the keras dialect, one family a file."""
