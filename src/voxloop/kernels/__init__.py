"""Numba kernels: arrays in, arrays out. They assume what callers have checked, and let go of the interpreter lock."""
