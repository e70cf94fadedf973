"""Export to TensorFlow's SavedModel, through torch's exporter as in Keras's torch backend."""

from keras.src.backend.torch.export import SavedModelExportArchive

__all__ = ["SavedModelExportArchive"]
