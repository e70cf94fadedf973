"""Finds good configurations of kernels and remembers them.

The tuner sees a kernel only through a list of configurations and a function that builds one of them
(`protocol.Candidate`); it imports neither the compiler nor Keras.
"""
