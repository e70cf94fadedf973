"""Export to TensorFlow's SavedModel, through torch's exporter as in Keras's torch backend."""

from keras.src.backend.torch.export import TorchExportArchive as SavedModelExportArchive

__all__ = ["SavedModelExportArchive"]
