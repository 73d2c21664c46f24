"""How functions are compiled that only kernels call."""

from __future__ import annotations

from functools import partial

from numba import njit

# Without what makes them callable from Python, an eighth of all that there is to compile. Python must not call them
# (that would end the process): tests take the source of a kernel and of its parts.
part = partial(njit, cache=True, nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
