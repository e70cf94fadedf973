"""keras-triton: a Keras 3 backend that compiles whole steps to fused kernels."""
