"""The backend as Keras sees it."""
