"""Hand-written Triton templates, and what the compiler needs to fuse into, launch and tune them."""
