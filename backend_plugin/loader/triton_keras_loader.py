"""Selects keras_triton as the backend of Keras 3.15."""
