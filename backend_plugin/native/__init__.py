"""A step as one native call: tables for the driver (lowering/emit_llvm/driver.py), and what fills them."""
