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
LONGEST_RUN = 4  # voxels whose responses are added together; a power of two

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
    """Add the voxels of a run in `width` responses to sums and sums of squares that lie side by side.

    Numba's own loop adds one response after the other; here the run's voxels in all of them are turned in registers,
    until a vector of 8 holds all responses of a voxel, or fewer of several voxels, and is added at once.

    Parameters
    ----------
    responses
        (m,) float32; response k of a voxel is `stride` after response k - 1.
    first, count
        Index of the first voxel, and how many there are, 1..`LONGEST_RUN`; the caller sees to it that as many as that
        can be read.
    sums, squares
        (m,) float64.
    at
        Where the sums of the first response are.
    width
        8, 4, 2 or 1 responses, a literal.
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
    """Emit the body of `add_columns`; each sum is a tree over the voxels, so that its order does not vary."""
    r, stride, first, count, s, q, at, _ = arguments
    width = signature.args[-1].literal_value
    responses, sums, squares = (
        context.make_array(signature.args[i])(context, builder, array) for i, array in ((0, r), (4, s), (5, q))
    )
    run, doubles = ir.VectorType(ir.FloatType(), LONGEST_RUN), ir.VectorType(ir.DoubleType(), min(8, 4 * width))
    multiply_add = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(doubles, [doubles] * 3), f"llvm.fmuladd.v{doubles.count}f64"
    )
    rows = [
        builder.load(
            vector_at(
                builder, responses.data, builder.add(first, builder.mul(stride, ir.Constant(first.type, k))), run
            ),
            align=4,
        )
        for k in range(width)
    ]
    n_lanes = doubles.count
    lanes = ir.VectorType(count.type, n_lanes)
    counts, nothing = splat(builder, count, lanes), ir.Constant(ir.VectorType(ir.FloatType(), n_lanes), [0.0] * n_lanes)
    columns = []
    for i, voxels in enumerate(_columns(builder, rows)):
        which = ir.Constant(lanes, [(n_lanes * i + lane) // width for lane in range(n_lanes)])
        inside = builder.icmp_signed("<", which, counts)
        columns.append(builder.fpext(builder.select(inside, voxels, nothing), doubles))
    total, square = columns[0], builder.fmul(columns[0], columns[0])
    for values in columns[1:]:
        total = builder.fadd(total, values)
        square = builder.call(multiply_add, [values, values, square])
    for target, terms in ((sums, total), (squares, square)):
        while terms.type.count > width:
            half = terms.type.count // 2
            low, high = range(half), range(half, 2 * half)
            terms = builder.fadd(_shuffle(builder, terms, terms, low), _shuffle(builder, terms, terms, high))
        place = vector_at(builder, target.data, at, terms.type)
        builder.store(builder.fadd(builder.load(place, align=8), terms), place, align=8)
    return context.get_dummy_value()


def _columns(builder: Any, rows: list[Any]) -> list[Any]:
    """Return the columns of a matrix of 1, 2, 4 or 8 rows of 4, one behind the other, as vectors of 8 (or one of 4).

    The rows are one behind the other too; their halves are interleaved until the matrix is turned.
    """
    if len(rows) == 1:
        return rows
    parts = [_shuffle(builder, a, b, range(8)) for a, b in zip(rows[::2], rows[1::2], strict=True)]
    for _ in range(len(rows).bit_length() - 1):
        if len(parts) == 1:
            parts = [_shuffle(builder, parts[0], parts[0], [i // 2 + 4 * (i % 2) for i in range(8)])]
            continue
        half = len(parts) // 2
        parts = [
            _shuffle(builder, a, b, [start + i // 2 + 8 * (i % 2) for i in range(8)])
            for a, b in zip(parts[:half], parts[half:], strict=True)
            for start in (0, 4)
        ]
    return parts


def _shuffle(builder: Any, a: Any, b: Any, lanes: Iterable[int]) -> Any:
    """Return the vector of the given lanes of two."""
    chosen = list(lanes)
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_INT32, len(chosen)), chosen))


@overload(add_columns, inline="always", prefer_literal=True)
def _overload_add_columns(responses, stride, first, count, sums, squares, at, width):  # type: ignore[no-untyped-def]  # noqa: ARG001 - as above
    def jitted(responses, stride, first, count, sums, squares, at, width):  # type: ignore[no-untyped-def]  # compiled
        _add_columns(responses, stride, first, count, sums, squares, at, width)  # type: ignore[call-arg]  # numba passes `typing`

    return jitted
