"""Weighted sums over the taps of a convolution, as explicit vector code.

A run of voxels is summed in registers, all taps of it, and stored once. Numba's own loops read and write the sum once
for every four taps, and spend more on the slices of a short row than on its voxels. What then takes the time is to load
the voxels, twice as long where vectors cross lines of the cache; so neighbouring runs share what they load. Called from
Python, the functions run as the numpy code below. Multiplications and additions are contracted alike for every voxel of
a run, in vectors and in what is left over, so that a value does not depend on where in a run it is computed.
"""

# numba's and llvmlite's code generation has no types to check against.
# mypy: allow-untyped-calls, allow-untyped-defs
# What is overloaded and what is intrinsic takes numba's types, of which most are not looked at.
# ruff: noqa: ARG001
from __future__ import annotations

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
_TOGETHER = 4  # neighbouring runs of which a vector each is worked on together


@njit(cache=True, nogil=True)
def aligned(size: int) -> Float32:
    """Return float32 for anything, that start where a vector may be loaded at once: a third faster with many taps."""
    wider = np.empty(size + LANES - 1, np.float32)
    start = -(wider.ctypes.data // 4) % LANES
    return wider[start : start + size]


def sum_taps(
    out: Float32,
    to: int,
    out_pitch: int,
    src: Float32,
    base: int,
    src_pitch: int,
    n_rows: int,
    count: int,
    offsets: Int64,
    centre: int,
    taps: Float32,
    radius: int,
) -> None:
    """Write the sum over k of `taps[|k|] * src[base + offsets[centre + k] + i]` for `count` voxels i to `out[to + i]`.

    The same for `n_rows` runs, `src_pitch` apart where they are read and `out_pitch` apart where they are written.

    Parameters
    ----------
    out, src
        float32, addressed as if they were flat; they must not overlap.
    to, out_pitch
        Where the first run is written, and how far from it the next.
    base, src_pitch
        Where the first run is read, and how far from it the next.
    n_rows, count
        How many runs there are, and how long they are.
    offsets, centre
        Entry `centre + k` of `offsets` says how far off tap k is.
    taps, radius
        Half kernel of `radius + 1` taps; of several rows, the first one.
    """
    _write_sums(0, out, to, out_pitch, src, base, src_pitch, n_rows, count, offsets, centre, taps, radius)


def sum_taps_2(
    out: Float32,
    to: int,
    to_first: int,
    out_pitch: int,
    src: Float32,
    base: int,
    src_pitch: int,
    n_rows: int,
    count: int,
    offsets: Int64,
    centre: int,
    taps: Float32,
    radius: int,
) -> None:
    """Write `sum_taps` of `taps[0]`, and to `out[to_first + i]` the sum for the odd kernel `taps[1]`."""
    for row, at in enumerate((to, to_first)):
        _write_sums(row, out, at, out_pitch, src, base, src_pitch, n_rows, count, offsets, centre, taps, radius)


def sum_taps_3(
    out: Float32,
    to: int,
    to_first: int,
    to_second: int,
    out_pitch: int,
    src: Float32,
    base: int,
    src_pitch: int,
    n_rows: int,
    count: int,
    offsets: Int64,
    centre: int,
    taps: Float32,
    radius: int,
) -> None:
    """Write `sum_taps_2`, and to `out[to_second + i]` the sum for the even kernel `taps[2]`."""
    for row, at in enumerate((to, to_first, to_second)):
        _write_sums(row, out, at, out_pitch, src, base, src_pitch, n_rows, count, offsets, centre, taps, radius)


def _write_sums(
    kernel: int,
    out: Float32,
    to: int,
    out_pitch: int,
    src: Float32,
    base: int,
    src_pitch: int,
    n_rows: int,
    count: int,
    offsets: Int64,
    centre: int,
    taps: Float32,
    radius: int,
) -> None:
    """Write the sums for one row of `taps`; the second one is odd."""
    voxels, weights = src.reshape(-1), taps.reshape(-1, radius + 1)[kernel]
    for row in range(n_rows):

        def run(k: int, first: int = base + row * src_pitch) -> Float32:
            start = first + int(offsets[centre + k])
            return voxels[start : start + count]

        odd = kernel == 1
        total = np.zeros(count, np.float32) if odd else weights[0] * run(0)
        for k in range(1, radius + 1):
            total = total + weights[k] * (run(k) - run(-k) if odd else run(-k) + run(k))
        at = to + row * out_pitch
        out.reshape(-1)[at : at + count] = total


def sum_taps_rows(
    out: Float32,
    to: int,
    out_pitch: int,
    src: Float32,
    base: int,
    n_rows: int,
    count: int,
    offsets: Int64,
    centre: int,
    step: int,
    taps: Float32,
    radius: int,
) -> None:
    """Write `sum_taps` of `n_rows` runs, of which run j is centred on entry `centre + j * step` of `offsets`.

    With `step` 1 neighbouring runs, which mostly need the same voxels, are summed together.
    """
    for j in range(n_rows):
        at = to + j * out_pitch
        sum_taps(out, at, 0, src, base, 0, 1, count, offsets, centre + j * step, taps, radius)


def _signature(n_sums: int, out: Any, src: Any, offsets: Any, taps: Any) -> Any:
    if not all(isinstance(a, types.Array) and a.layout == "C" for a in (out, src, offsets, taps)):
        return None
    i = types.intp
    return types.void(out, *[i] * (n_sums + 1), src, i, i, i, i, offsets, i, taps, i)


@intrinsic
def _sum_taps(typing, out, to, out_pitch, src, base, src_pitch, n_rows, count, offsets, centre, taps, radius):
    return _signature(1, out, src, offsets, taps), _generate


@intrinsic
def _sum_taps_2(
    typing, out, to, to_first, out_pitch, src, base, src_pitch, n_rows, count, offsets, centre, taps, radius
):
    return _signature(2, out, src, offsets, taps), _generate


@intrinsic
def _sum_taps_3(
    typing, out, to, to_first, to_second, out_pitch, src, base, src_pitch, n_rows, count, offsets, centre, taps, radius
):
    return _signature(3, out, src, offsets, taps), _generate


@intrinsic
def _sum_taps_rows(typing, out, to, out_pitch, src, base, n_rows, count, offsets, centre, step, taps, radius):
    if _signature(1, out, src, offsets, taps) is None:
        return None
    i = types.intp
    return types.void(out, i, i, src, i, i, i, offsets, i, i, taps, i), _generate_rows


def _generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Emit a call of the loop: a loop of its own for each of two dozen calls takes LLVM seconds."""
    values = _data_of(context, builder, signature, arguments)
    builder.call(_loop(builder.module, len(arguments) - 11, [value.type for value in values]), values)
    return context.get_dummy_value()


def _generate_rows(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Emit a call of the loop over rows."""
    values = _data_of(context, builder, signature, arguments)
    builder.call(_loop_over_rows(builder.module, [value.type for value in values]), values)
    return context.get_dummy_value()


def _data_of(context: Any, builder: Any, signature: Any, arguments: Any) -> list[Any]:
    """Return the arguments, the first element's address for an array."""
    return [
        context.make_array(kind)(context, builder, value).data if isinstance(kind, types.Array) else value
        for kind, value in zip(signature.args, arguments, strict=True)
    ]


def _loop(module: Any, n_sums: int, kinds: list[Any]) -> Any:
    """Return the function of a module that writes the sums, made when it is first asked for.

    It goes over vectors, several of a run at a time while it has as many, then over what is left of several runs; or
    over voxels, if they fill no vector. The last vector of a run ends where the run does, and computes some voxels a
    second time.
    """
    function, builder = _function(module, f"voxloop_sum_taps_{n_sums}", kinds)
    if builder is None:
        return function
    out, *positions, out_pitch, src, base, src_pitch, n_rows, count, offsets, centre, taps, radius = function.args
    index, per_step = count.type, _PER_STEP[n_sums]
    lanes, together, wide = (ir.Constant(index, n) for n in (LANES, per_step, LANES * per_step))

    def emit(row: Any, x: Any, steps: list[tuple[Any, Any]], kind: Any) -> None:
        """Emit sums for voxel `x` of a run and, from there, the given steps in `src` and in `out` away."""
        read, written = (builder.add(builder.mul(row, pitch), x) for pitch in (src_pitch, out_pitch))
        places = [(builder.add(read, i), builder.add(written, j)) for i, j in steps]
        _emit_sums(builder, out, positions, src, base, offsets, centre, taps, radius, places, kind)

    def times(pitch: Any) -> list[Any]:
        return [builder.mul(pitch, ir.Constant(index, i)) for i in range(per_step)]

    along, across = [(i, i) for i in times(lanes)], list(zip(times(src_pitch), times(out_pitch), strict=True))
    with builder.if_else(builder.icmp_signed(">=", count, lanes)) as (vectors, voxels):
        with vectors:
            n_wide = builder.udiv(count, wide)
            with cgutils.for_range(builder, n_rows) as row, cgutils.for_range(builder, n_wide) as step:
                emit(row.index, builder.mul(step.index, wide), along, _FLOATS)
            rest, last = builder.mul(n_wide, wide), builder.sub(count, lanes)
            n_left = builder.udiv(builder.add(builder.sub(count, rest), ir.Constant(index, LANES - 1)), lanes)
            n_groups = builder.udiv(n_rows, together)
            grouped = builder.mul(n_groups, together)
            with cgutils.for_range(builder, n_left) as vector:
                x = builder.add(rest, builder.mul(vector.index, lanes))
                x = builder.select(builder.icmp_signed(">", x, last), last, x)
                with cgutils.for_range(builder, n_groups) as group:
                    emit(builder.mul(group.index, together), x, across, _FLOATS)
                with cgutils.for_range(builder, builder.sub(n_rows, grouped)) as row:
                    emit(builder.add(grouped, row.index), x, along[:1], _FLOATS)
        with voxels, cgutils.for_range(builder, n_rows) as row, cgutils.for_range(builder, count) as voxel:
            emit(row.index, voxel.index, along[:1], _FLOAT)
    builder.ret_void()
    return function


def _loop_over_rows(module: Any, kinds: list[Any]) -> Any:
    """Return the function of a module that writes runs, `_TOGETHER` of them at a time as long as there are as many."""
    function, builder = _function(module, "voxloop_sum_taps_rows", kinds)
    if builder is None:
        return function
    out, to, out_pitch, src, base, n_rows, count, offsets, centre, step, taps, radius = function.args
    index = count.type
    one, lanes, together = (ir.Constant(index, n) for n in (1, LANES, _TOGETHER))
    shared = builder.and_(builder.icmp_signed("==", step, one), builder.icmp_signed(">=", count, lanes))
    n_groups = builder.select(shared, builder.udiv(n_rows, together), ir.Constant(index, 0))
    last = builder.sub(count, lanes)
    n_vectors = builder.udiv(builder.add(count, ir.Constant(index, LANES - 1)), lanes)
    with cgutils.for_range(builder, n_groups) as group:
        row = builder.mul(group.index, together)
        first, middle = builder.add(to, builder.mul(row, out_pitch)), builder.add(centre, row)
        with cgutils.for_range(builder, n_vectors) as vector:
            position = builder.mul(vector.index, lanes)
            position = builder.select(builder.icmp_signed(">", position, last), last, position)
            to_here, here = (builder.add(v, position) for v in (first, base))
            _emit_group(builder, out, to_here, out_pitch, src, here, offsets, middle, taps, radius)
    grouped = builder.mul(n_groups, together)
    zero = ir.Constant(index, 0)
    kinds = [v.type for v in (out, to, out_pitch, src, base, zero, one, count, offsets, centre, taps, radius)]
    single = _loop(module, 1, kinds)
    with cgutils.for_range(builder, builder.sub(n_rows, grouped)) as loop:
        row = builder.add(grouped, loop.index)
        at, middle = builder.add(to, builder.mul(row, out_pitch)), builder.add(centre, builder.mul(row, step))
        builder.call(single, [out, at, zero, src, base, zero, one, count, offsets, middle, taps, radius])
    builder.ret_void()
    return function


def _emit_group(
    builder: Any,
    out: Any,
    to: Any,
    out_pitch: Any,
    src: Any,
    here: Any,
    offsets: Any,
    centre: Any,
    taps: Any,
    radius: Any,
) -> None:
    """Emit a vector of each of `_TOGETHER` runs. What tap k of one run needs, tap k + 1 of its neighbour needs too."""
    index = centre.type

    def load(offset_at: Any) -> Any:
        start = builder.add(here, builder.load(builder.gep(offsets, [offset_at])))
        return builder.load(vector_at(builder, src, start, _FLOATS), align=4)

    def weight(k: Any) -> Any:
        return splat(builder, builder.load(builder.gep(taps, [k])), _FLOATS)

    centres = [load(builder.add(centre, ir.Constant(index, j))) for j in range(_TOGETHER)]
    before, after = ([cgutils.alloca_once_value(builder, c) for c in centres] for _ in range(2))
    w = weight(ir.Constant(index, 0))
    sums = [cgutils.alloca_once_value(builder, builder.fmul(w, c)) for c in centres]
    multiply_add = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(_FLOATS, [_FLOATS] * 3), f"llvm.fmuladd.v{LANES}f32"
    )
    with cgutils.for_range(builder, radius) as loop:
        k = builder.add(loop.index, ir.Constant(index, 1))
        w = weight(k)
        left = [load(builder.sub(centre, k)), *(builder.load(v) for v in before[:-1])]
        right = [
            *(builder.load(v) for v in after[1:]),
            load(builder.add(builder.add(centre, ir.Constant(index, _TOGETHER - 1)), k)),
        ]
        for variables, vectors in ((before, left), (after, right)):
            for variable, vector in zip(variables, vectors, strict=True):
                builder.store(vector, variable)
        for total, a, b in zip(sums, left, right, strict=True):
            builder.store(builder.call(multiply_add, [w, builder.fadd(a, b), builder.load(total)]), total)
    for j, total in enumerate(sums):
        place = builder.add(to, builder.mul(out_pitch, ir.Constant(index, j)))
        builder.store(builder.load(total), vector_at(builder, out, place, _FLOATS), align=4)


def _function(module: Any, name: str, kinds: list[Any]) -> tuple[Any, Any]:
    """Return the function of a module, and what writes its body unless it has one."""
    function = cgutils.get_or_insert_function(module, ir.FunctionType(ir.VoidType(), kinds), name)
    if not function.is_declaration:
        return function, None
    function.linkage = "linkonce_odr"  # kernels that become one module share it
    function.attributes.add("noinline")
    return function, ir.IRBuilder(function.append_basic_block())


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
    places: list[tuple[Any, Any]],
    kind: Any,
) -> None:
    """Emit the sums of vectors (or of a voxel), each with where it is read and written; every second sum is odd."""
    one = ir.Constant(centre.type, 1)
    per_row = builder.add(radius, one)
    starts = [builder.add(base, read) for read, _ in places]

    def load(offset_at: Any) -> list[Any]:
        offset = builder.load(builder.gep(offsets, [offset_at]))
        return [builder.load(_pointer(builder, src, builder.add(s, offset), kind), align=4) for s in starts]

    def weight(row: int, k: Any) -> Any:
        at = builder.add(builder.mul(per_row, ir.Constant(k.type, row)), k)
        scalar = builder.load(builder.gep(taps, [at]))
        return splat(builder, scalar, kind) if kind is _FLOATS else scalar

    centres = load(centre)
    nothing = ir.Constant(kind, [0.0] * LANES) if kind is _FLOATS else ir.Constant(kind, 0.0)
    zero = ir.Constant(centre.type, 0)
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
        for total, (_, written) in zip(accumulated, places, strict=True):
            builder.store(builder.load(total), _pointer(builder, out, builder.add(start, written), kind), align=4)


def _pointer(builder: Any, data: Any, index: Any, kind: Any) -> Any:
    return vector_at(builder, data, index, kind) if kind is _FLOATS else builder.gep(data, [index])


@overload(sum_taps, inline="always")
def _overload_sum_taps(out, to, out_pitch, src, base, src_pitch, n_rows, count, offsets, centre, taps, radius):
    def jitted(out, to, out_pitch, src, base, src_pitch, n_rows, count, offsets, centre, taps, radius):
        _sum_taps(out, to, out_pitch, src, base, src_pitch, n_rows, count, offsets, centre, taps, radius)  # type: ignore[call-arg]  # numba passes `typing`

    return jitted


@overload(sum_taps_2, inline="always")
def _overload_sum_taps_2(
    out, to, to_first, out_pitch, src, base, src_pitch, n_rows, count, offsets, centre, taps, radius
):
    def jitted(out, to, to_first, out_pitch, src, base, src_pitch, n_rows, count, offsets, centre, taps, radius):
        _sum_taps_2(out, to, to_first, out_pitch, src, base, src_pitch, n_rows, count, offsets, centre, taps, radius)  # type: ignore[call-arg]  # as above

    return jitted


@overload(sum_taps_3, inline="always")
def _overload_sum_taps_3(
    out, to, to_first, to_second, out_pitch, src, base, src_pitch, n_rows, count, offsets, centre, taps, radius
):
    def jitted(
        out, to, to_first, to_second, out_pitch, src, base, src_pitch, n_rows, count, offsets, centre, taps, radius
    ):
        _sum_taps_3(
            out, to, to_first, to_second, out_pitch, src, base, src_pitch, n_rows, count, offsets, centre, taps, radius
        )  # type: ignore[call-arg]  # as above

    return jitted


@overload(sum_taps_rows, inline="always")
def _overload_sum_taps_rows(out, to, out_pitch, src, base, n_rows, count, offsets, centre, step, taps, radius):
    def jitted(out, to, out_pitch, src, base, n_rows, count, offsets, centre, step, taps, radius):
        _sum_taps_rows(out, to, out_pitch, src, base, n_rows, count, offsets, centre, step, taps, radius)  # type: ignore[call-arg]  # as above

    return jitted
