"""Weighted sums over the taps of a convolution, as explicit vector code.

A run of voxels is summed in registers, all taps of it, and stored once. Numba's own loops read and write the sum once
for every four taps, and spend more on the slices of a short row than on its voxels. Called from Python, the functions
run as the numpy code below. Multiplications and additions are contracted alike for every voxel of a run, in vectors and
in what is left over, so that a value does not depend on where in a run it is computed.
"""

# numba's and llvmlite's code generation has no types to check against.
# mypy: allow-untyped-calls
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]  # has no stubs
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, overload
from numpy.typing import NDArray

from voxloop.kernels.simd import splat, vector_at

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

LANES = 16
_FLOAT = ir.FloatType()
_FLOATS = ir.VectorType(_FLOAT, LANES)
_PER_STEP = {1: 4, 2: 2, 3: 2}  # vectors worked on together, by the number of sums: what the registers hold


@njit(cache=True, nogil=True)
def aligned(size: int) -> Float32:
    """Return float32 for anything, that start where a vector may be loaded at once: a third faster with many taps."""
    wider = np.empty(size + LANES - 1, np.float32)
    start = -(wider.ctypes.data // 4) % LANES
    return wider[start : start + size]


def sum_taps(
    out: Float32, to: int, count: int, src: Float32, base: int, offsets: Int64, centre: int, taps: Float32, radius: int
) -> None:
    """Write the sum over k of `taps[|k|] * src[base + offsets[centre + k] + i]` for `count` voxels i to `out[to + i]`.

    Parameters
    ----------
    out, src
        float32, addressed as if they were flat; they must not overlap.
    to, count
        Where the run is written, and how long it is.
    base, offsets, centre
        Where the run is read: entry `centre + k` of `offsets` says how far off tap k is.
    taps, radius
        Half kernel of `radius + 1` taps; of several rows, the first one.
    """
    run, part = _run_of(src, base, offsets, centre, count), taps.reshape(-1)
    total = part[0] * run(0)
    for k in range(1, radius + 1):
        total = total + part[k] * (run(-k) + run(k))
    out.reshape(-1)[to : to + count] = total


def sum_taps_2(
    out: Float32,
    to: int,
    to_first: int,
    count: int,
    src: Float32,
    base: int,
    offsets: Int64,
    centre: int,
    taps: Float32,
    radius: int,
) -> None:
    """Write `sum_taps` of `taps[0]`, and to `out[to_first + i]` the sum for the odd kernel `taps[1]`."""
    sum_taps(out, to, count, src, base, offsets, centre, taps, radius)
    run = _run_of(src, base, offsets, centre, count)
    total = np.zeros(count, np.float32)
    for k in range(1, radius + 1):
        total = total + taps[1, k] * (run(k) - run(-k))
    out.reshape(-1)[to_first : to_first + count] = total


def sum_taps_3(
    out: Float32,
    to: int,
    to_first: int,
    to_second: int,
    count: int,
    src: Float32,
    base: int,
    offsets: Int64,
    centre: int,
    taps: Float32,
    radius: int,
) -> None:
    """Write `sum_taps_2`, and to `out[to_second + i]` the sum for the even kernel `taps[2]`."""
    sum_taps_2(out, to, to_first, count, src, base, offsets, centre, taps, radius)
    sum_taps(out, to_second, count, src, base, offsets, centre, taps[2], radius)


def _run_of(src: Float32, base: int, offsets: Int64, centre: int, count: int) -> Callable[[int], Float32]:
    flat = src.reshape(-1)

    def run(k: int) -> Float32:
        start = base + int(offsets[centre + k])
        return flat[start : start + count]

    return run


def _signature(n_sums: int, out: Any, src: Any, offsets: Any, taps: Any) -> Any:
    if not all(isinstance(a, types.Array) and a.layout == "C" for a in (out, src, offsets, taps)):
        return None
    i = types.intp
    return types.void(out, *[i] * n_sums, i, src, i, offsets, i, taps, i)


@intrinsic
def _sum_taps(typing, out, to, count, src, base, offsets, centre, taps, radius):  # type: ignore[no-untyped-def]  # noqa: ARG001 - numba's types, which are values
    return _signature(1, out, src, offsets, taps), _generate


@intrinsic
def _sum_taps_2(typing, out, to, to_first, count, src, base, offsets, centre, taps, radius):  # type: ignore[no-untyped-def]  # noqa: ARG001 - as above
    return _signature(2, out, src, offsets, taps), _generate


@intrinsic
def _sum_taps_3(typing, out, to, to_first, to_second, count, src, base, offsets, centre, taps, radius):  # type: ignore[no-untyped-def]  # noqa: ARG001 - as above
    return _signature(3, out, src, offsets, taps), _generate


def _generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Emit a call of the loop: a loop of its own for each of two dozen calls takes LLVM seconds."""
    n_sums = len(arguments) - 8
    values = [
        context.make_array(kind)(context, builder, value).data if isinstance(kind, types.Array) else value
        for kind, value in zip(signature.args, arguments, strict=True)
    ]
    builder.call(_loop(builder.module, n_sums, [value.type for value in values]), values)
    return context.get_dummy_value()


def _loop(module: Any, n_sums: int, kinds: list[Any]) -> Any:
    """Return the function of a module that writes the sums, made when it is first asked for.

    It goes over vectors, several at a time while there are as many, or over voxels if they fill no vector. The last
    vector of a run ends where the run does, and computes some voxels a second time.
    """
    name = f"voxloop_sum_taps_{n_sums}"
    function = cgutils.get_or_insert_function(module, ir.FunctionType(ir.VoidType(), kinds), name)
    if not function.is_declaration:
        return function
    function.linkage = "linkonce_odr"  # kernels that become one module share it
    function.attributes.add("noinline")
    builder = ir.IRBuilder(function.append_basic_block())
    out, *positions, count, src, base, offsets, centre, taps, radius = function.args

    def emit(position: Any, kind: Any, n_vectors: int) -> None:
        _emit_sums(builder, out, positions, src, base, offsets, centre, taps, radius, position, kind, n_vectors)

    per_step = _PER_STEP[n_sums]
    lanes, wide = ir.Constant(count.type, LANES), ir.Constant(count.type, LANES * per_step)
    with builder.if_else(builder.icmp_signed(">=", count, lanes)) as (vectors, voxels):
        with vectors:
            n_wide = builder.udiv(count, wide)
            with cgutils.for_range(builder, n_wide) as loop:
                emit(builder.mul(loop.index, wide), _FLOATS, per_step)
            rest, last = builder.mul(n_wide, wide), builder.sub(count, lanes)
            n_single = builder.udiv(builder.add(builder.sub(last, rest), ir.Constant(count.type, 2 * LANES - 1)), lanes)
            with cgutils.for_range(builder, n_single) as loop:
                position = builder.add(rest, builder.mul(loop.index, lanes))
                emit(builder.select(builder.icmp_signed(">", position, last), last, position), _FLOATS, 1)
        with voxels, cgutils.for_range(builder, count) as loop:
            emit(loop.index, _FLOAT, 1)
    builder.ret_void()
    return function


def _emit_sums(
    builder: Any,
    out: Any,
    positions: Any,
    src: Any,
    base: Any,
    offsets: Any,
    centre: Any,
    taps: Any,
    radius: Any,
    position: Any,
    kind: Any,
    n_vectors: int,
) -> None:
    """Emit the sums for `n_vectors` vectors (or a single voxel) from `position` on; every second sum is odd."""
    one = ir.Constant(position.type, 1)
    per_row = builder.add(radius, one)
    here = builder.add(base, position)

    def load(offset_at: Any) -> list[Any]:
        start = builder.add(here, builder.load(builder.gep(offsets, [offset_at])))
        places = [builder.add(start, ir.Constant(start.type, i * LANES)) for i in range(n_vectors)]
        return [builder.load(_pointer(builder, src, place, kind), align=4) for place in places]

    def weight(row: int, k: Any) -> Any:
        at = builder.add(builder.mul(per_row, ir.Constant(k.type, row)), k)
        scalar = builder.load(builder.gep(taps, [at]))
        return splat(builder, scalar, kind) if kind is _FLOATS else scalar

    centres = load(centre)
    nothing = ir.Constant(kind, [0.0] * LANES) if kind is _FLOATS else ir.Constant(kind, 0.0)
    zero = ir.Constant(position.type, 0)
    sums = [
        [
            cgutils.alloca_once_value(builder, nothing if row == 1 else builder.fmul(weight(row, zero), voxels))
            for voxels in centres
        ]
        for row in range(len(positions))
    ]
    with cgutils.for_range(builder, radius) as loop:
        k = builder.add(loop.index, one)
        before, after = load(builder.sub(centre, k)), load(builder.add(centre, k))
        even = [builder.fadd(a, b) for a, b in zip(before, after, strict=True)]
        odd = [builder.fsub(b, a) for a, b in zip(before, after, strict=True)] if len(sums) > 1 else []
        multiply_add = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(kind, [kind] * 3), f"llvm.fmuladd.{'v16f32' if kind is _FLOATS else 'f32'}"
        )
        for row, accumulated in enumerate(sums):
            w = weight(row, k)
            for total, pair in zip(accumulated, odd if row == 1 else even, strict=True):
                builder.store(builder.call(multiply_add, [w, pair, builder.load(total)]), total)
    for start, accumulated in zip(positions, sums, strict=True):
        for i, total in enumerate(accumulated):
            place = builder.add(builder.add(start, position), ir.Constant(position.type, i * LANES))
            builder.store(builder.load(total), _pointer(builder, out, place, kind), align=4)


def _pointer(builder: Any, data: Any, index: Any, kind: Any) -> Any:
    return vector_at(builder, data, index, kind) if kind is _FLOATS else builder.gep(data, [index])


@overload(sum_taps, inline="always")
def _overload_sum_taps(out, to, count, src, base, offsets, centre, taps, radius):  # type: ignore[no-untyped-def]  # noqa: ARG001 - as above
    def jitted(out, to, count, src, base, offsets, centre, taps, radius):  # type: ignore[no-untyped-def]  # compiled
        _sum_taps(out, to, count, src, base, offsets, centre, taps, radius)  # type: ignore[call-arg]  # numba passes `typing`

    return jitted


@overload(sum_taps_2, inline="always")
def _overload_sum_taps_2(out, to, to_first, count, src, base, offsets, centre, taps, radius):  # type: ignore[no-untyped-def]  # noqa: ARG001 - as above
    def jitted(out, to, to_first, count, src, base, offsets, centre, taps, radius):  # type: ignore[no-untyped-def]  # compiled
        _sum_taps_2(out, to, to_first, count, src, base, offsets, centre, taps, radius)  # type: ignore[call-arg]  # as above

    return jitted


@overload(sum_taps_3, inline="always")
def _overload_sum_taps_3(out, to, to_first, to_second, count, src, base, offsets, centre, taps, radius):  # type: ignore[no-untyped-def]  # noqa: ARG001 - as above
    def jitted(out, to, to_first, to_second, count, src, base, offsets, centre, taps, radius):  # type: ignore[no-untyped-def]  # compiled
        _sum_taps_3(out, to, to_first, to_second, count, src, base, offsets, centre, taps, radius)  # type: ignore[call-arg]  # as above

    return jitted
