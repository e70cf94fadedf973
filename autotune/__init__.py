"""Choosing a kernel's configuration by measurement."""
