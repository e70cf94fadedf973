"""The passes: each takes a module from one stage to the next (or rewrites within a stage)."""
