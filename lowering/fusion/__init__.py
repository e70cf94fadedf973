"""How kernels are found: a light graph of a module, and the rewrites and groupings on it."""
