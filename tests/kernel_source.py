"""Kernels as plain Python."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

from numba.core.dispatcher import Dispatcher


def python_source(kernel: Dispatcher) -> Callable[..., Any]:
    """Return a kernel as plain Python, along with the parts that it calls, which Python cannot call compiled."""
    source = kernel.py_func
    names = {
        name: python_source(value) if isinstance(value, Dispatcher) else value
        for name, value in source.__globals__.items()
        if name in source.__code__.co_names or name == "__builtins__"
    }
    return FunctionType(source.__code__, names, source.__name__, source.__defaults__, source.__closure__)
