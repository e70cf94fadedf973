"""The compiler: from a captured graph to a plan of kernels."""
