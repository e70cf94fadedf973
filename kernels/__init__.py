"""Hand-written Triton kernel templates."""
