"""Keras ops on torch tensors."""
