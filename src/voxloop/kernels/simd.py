"""The two steps that have to be vector code, written as such: one of SLIC, one of pooling.

Numba's own loop over 16 voxels takes 28 to 40 ns a visit (checks for aliasing, reference counts of the slices, a scalar
rest where the trip count is not known); the same step as LLVM vector instructions takes 3.5 ns. LLVM lowers the
vectors of 16 to whatever the processor has. Called from Python, `claim` runs as the numpy code below.
"""

# numba's and llvmlite's code generation has no types to check against.
# mypy: allow-untyped-calls
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]  # has no stubs
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]

LANES = 16

_INT32 = ir.IntType(32)
_FLOATS = ir.VectorType(ir.FloatType(), LANES)
_INTS = ir.VectorType(_INT32, LANES)


def claim(
    values: Float32,
    colours: Float32,
    k: int,
    spatial: Float32,
    lane: int,
    elsewhere: np.float32,
    nearest: Float32,
    owner: Int32,
    row: int,
    x: int,
) -> None:
    """Let cluster `k` win those of 16 voxels that it is nearer to than any cluster before it.

    Parameters
    ----------
    values
        float32 (c, y, x), the image.
    colours
        float32 (k, c), intensities of the clusters.
    k
        The cluster's index, int32.
    spatial
        float32 (k, width), part of the squared distance that depends on x.
    lane
        Where in `spatial` the 16 voxels start.
    elsewhere
        float32, the part of the squared distance that depends on y and z.
    nearest, owner
        float32 and int32 (y, x), smallest squared distance so far and whose it is.
    row, x
        Index of the first voxel; the caller sees to it that 16 of them exist.
    """
    part = slice(x, x + LANES)
    distance = spatial[k, lane : lane + LANES] + elsewhere
    for c in range(values.shape[0]):
        difference = values[c, row, part] - colours[k, c]
        distance = distance + difference * difference
    nearer = distance < nearest[row, part]
    nearest[row, part][nearer] = distance[nearer]
    owner[row, part][nearer] = k


@intrinsic
def _claim(typing, values, colours, k, spatial, lane, elsewhere, nearest, owner, row, x):  # type: ignore[no-untyped-def]  # noqa: ARG001 - numba's types, which are values
    arrays = (values, colours, spatial, nearest, owner)
    if not all(isinstance(a, types.Array) and a.layout == "C" for a in arrays):
        return None
    signature = types.void(
        values, colours, types.int32, spatial, types.intp, types.float32, nearest, owner, types.intp, types.intp
    )
    return signature, _generate_claim


def _generate_claim(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Emit the body of `claim`; the order of the operations is that of the numpy code."""
    v, g, k, s, lane, elsewhere, n, o, row, x = arguments
    values, colours, spatial, nearest, owner = (
        context.make_array(signature.args[i])(context, builder, array)
        for i, array in ((0, v), (1, g), (3, s), (6, n), (7, o))
    )
    k_long = builder.sext(k, row.type)
    _, n_rows, stride = cgutils.unpack_tuple(builder, values.shape)
    n_channels = cgutils.unpack_tuple(builder, colours.shape)[1]
    width = cgutils.unpack_tuple(builder, spatial.shape)[1]
    voxel = builder.add(builder.mul(row, stride), x)

    near_at = vector_at(builder, nearest.data, voxel, _FLOATS)
    owner_at = vector_at(builder, owner.data, voxel, _INTS)
    along_x = builder.load(
        vector_at(builder, spatial.data, builder.add(builder.mul(k_long, width), lane), _FLOATS), align=4
    )
    distance = cgutils.alloca_once_value(builder, builder.fadd(along_x, splat(builder, elsewhere, _FLOATS)))
    first_colour = builder.mul(k_long, n_channels)
    plane = builder.mul(n_rows, stride)
    with cgutils.for_range(builder, n_channels) as loop:
        colour = builder.load(builder.gep(colours.data, [builder.add(first_colour, loop.index)]))
        source = vector_at(builder, values.data, builder.add(builder.mul(loop.index, plane), voxel), _FLOATS)
        difference = builder.fsub(builder.load(source, align=4), splat(builder, colour, _FLOATS))
        builder.store(builder.fadd(builder.load(distance), builder.fmul(difference, difference)), distance)

    total, before = builder.load(distance), builder.load(near_at, align=4)
    nearer = builder.fcmp_ordered("<", total, before)
    builder.store(builder.select(nearer, total, before), near_at, align=4)
    mine, whose = splat(builder, k, _INTS), builder.load(owner_at, align=4)
    builder.store(builder.select(nearer, mine, whose), owner_at, align=4)
    return context.get_dummy_value()


def vector_at(builder: Any, data: Any, index: Any, vector: Any) -> Any:
    """Return a pointer to the vector that starts at element `index`."""
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


def splat(builder: Any, scalar: Any, vector: Any) -> Any:
    """Return a vector with `scalar` in every lane."""
    undefined = ir.Constant(vector, ir.Undefined)
    one = builder.insert_element(undefined, scalar, ir.Constant(_INT32, 0))
    return builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(_INT32, vector.count), [0] * vector.count))


@overload(claim, inline="always")
def _overload_claim(values, colours, k, spatial, lane, elsewhere, nearest, owner, row, x):  # type: ignore[no-untyped-def]  # noqa: ARG001 - as above
    def jitted(values, colours, k, spatial, lane, elsewhere, nearest, owner, row, x):  # type: ignore[no-untyped-def]  # compiled
        _claim(values, colours, k, spatial, lane, elsewhere, nearest, owner, row, x)  # type: ignore[call-arg]  # numba passes `typing`

    return jitted


def add_columns(
    responses: Float32, stride: int, first: int, count: int, sums: Float64, squares: Float64, at: int, width: int
) -> None:
    """Add at most 8 voxels of `width` responses to sums and sums of squares that lie side by side.

    Numba's own loop adds one response after the other; here a square of 8 voxels by `width` responses is turned in
    registers, and all responses of a voxel are added at once. Ours, measured at 10 responses: 9.2 against 3 ns a voxel.

    Parameters
    ----------
    responses
        (m,) float32; response k of a voxel is `stride` after response k - 1.
    first, count
        Index of the first voxel, and how many there are, 1..8; the caller sees to it that 8 can be read.
    sums, squares
        (m,) float64.
    at
        Where the sums of the first response are.
    width
        8, 4 or 2 responses, a literal.
    """
    for k in range(width):
        values = responses[first + k * stride : first + k * stride + count].astype(np.float64)
        sums[at + k] += values.sum()
        squares[at + k] += (values * values).sum()


@intrinsic
def _add_columns(typing, responses, stride, first, count, sums, squares, at, width):  # type: ignore[no-untyped-def]  # noqa: ARG001 - numba's types
    if not isinstance(width, types.IntegerLiteral):
        return None
    index = types.intp
    return types.void(responses, index, index, index, sums, squares, index, width), _generate_add_columns


def _generate_add_columns(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Emit the body of `add_columns`; each sum is a tree over the 8 voxels, so that its order does not vary."""
    r, stride, first, count, s, q, at, _ = arguments
    width = signature.args[-1].literal_value
    responses, sums, squares = (
        context.make_array(signature.args[i])(context, builder, array) for i, array in ((0, r), (4, s), (5, q))
    )
    eight, doubles = ir.VectorType(ir.FloatType(), 8), ir.VectorType(ir.DoubleType(), width)
    lanes = ir.VectorType(first.type, 8)
    counts = splat(builder, count, lanes)
    inside = builder.icmp_signed("<", ir.Constant(lanes, list(range(8))), counts)
    rows = []
    for k in range(width):
        start = builder.add(first, builder.mul(stride, ir.Constant(first.type, k)))
        loaded = builder.load(vector_at(builder, responses.data, start, eight), align=4)
        rows.append(builder.select(inside, loaded, ir.Constant(eight, [0.0] * 8)))
    voxels = [builder.fpext(column, doubles) for column in _columns(builder, rows)]
    for target, terms in ((sums, voxels), (squares, [builder.fmul(v, v) for v in voxels])):
        place = vector_at(builder, target.data, at, doubles)
        while len(terms) > 1:
            terms = [builder.fadd(a, b) for a, b in zip(terms[::2], terms[1::2], strict=True)]
        builder.store(builder.fadd(builder.load(place, align=8), terms[0]), place, align=8)
    return context.get_dummy_value()


def _columns(builder: Any, rows: list[Any]) -> list[Any]:
    """Return the 8 columns of a matrix of 2, 4 or 8 rows: its halves are interleaved until it is turned."""
    width = len(rows)
    parts = rows
    low = [i // 2 + 8 * (i % 2) for i in range(8)]
    for _ in range(width.bit_length() - 1):
        half = len(parts) // 2
        parts = [
            _shuffle(builder, a, b, lanes)
            for a, b in zip(parts[:half], parts[half:], strict=True)
            for lanes in (low, [i + 4 for i in low])
        ]
    return [_shuffle(builder, p, p, range(i, i + width)) for p in parts for i in range(0, 8, width)]


def _shuffle(builder: Any, a: Any, b: Any, lanes: Iterable[int]) -> Any:
    """Return the vector of the given lanes of two."""
    chosen = list(lanes)
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_INT32, len(chosen)), chosen))


@overload(add_columns, inline="always", prefer_literal=True)
def _overload_add_columns(responses, stride, first, count, sums, squares, at, width):  # type: ignore[no-untyped-def]  # noqa: ARG001 - as above
    def jitted(responses, stride, first, count, sums, squares, at, width):  # type: ignore[no-untyped-def]  # compiled
        _add_columns(responses, stride, first, count, sums, squares, at, width)  # type: ignore[call-arg]  # numba passes `typing`

    return jitted
