"""What the supervoxels of a volume are: labels, a table, a graph, and a report on how they came about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from voxloop.kernels.adjacency import find_neighbours
from voxloop.volume import ArrayLike

ROWS = 2**18  # of a large table that are worked on at a time
MAX_DEVIATION = 0.3  # of the number of supervoxels from the number asked for, before it is worth a message


@dataclass(frozen=True)
class Adjacency:
    """Which supervoxels touch.

    Attributes
    ----------
    edges
        int32 (m, 2), ids a < b that share a face, sorted.
    area
        float64 (m,), area of contact; a face counts by its size in relative spacing.
    n
        Number of supervoxels.
    """

    edges: NDArray[np.signedinteger[Any]]
    area: NDArray[np.float64]
    n: int

    def parts(self) -> Iterator[tuple[NDArray[np.signedinteger[Any]], NDArray[np.float64]]]:
        """Yield edges and areas, some at a time: an index of all at once takes several times their memory."""
        for first in range(0, len(self.edges), ROWS):
            yield self.edges[first : first + ROWS], self.area[first : first + ROWS]

    def matrix(self) -> sparse.csr_array:
        """Return the areas of contact as a symmetric sparse matrix (n, n); row i belongs to supervoxel i + 1."""
        a, b = self.edges.T - 1
        area = np.concatenate([self.area, self.area])
        rows, columns = np.concatenate([a, b]), np.concatenate([b, a])
        return sparse.coo_array((area, (rows, columns)), shape=(self.n, self.n)).tocsr()

    def neighbours(self) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
        """Return where the rows of 0..n-1 begin (n + 1,), the neighbours of each, ascending, and their shares of area.

        A supervoxel without neighbours is its own. 8 bytes a neighbour: a sparse matrix of the areas would need several
        times that while it is made.
        """
        return find_neighbours(np.asarray(self.edges), np.asarray(self.area), self.n)

    def averaging(self) -> sparse.csr_array:
        """Return the float32 matrix (n, n) that averages over the neighbours, weighted by contact area; rows sum to 1.

        A supervoxel without neighbours keeps its own value.
        """
        starts, neighbours, weights = self.neighbours()
        return sparse.csr_array((weights, neighbours, starts), shape=(self.n, self.n))


@dataclass(frozen=True)
class SlicReport:
    """How the supervoxels came about.

    Attributes
    ----------
    asked_for, got
        Number of supervoxels asked for and reached; the same for labels of the user's own.
    iterations
        How many times all voxels were assigned; 0 for labels of the user's own.
    converged
        Whether no centre moved by more than a tenth of the seeds' distance at last.
    """

    asked_for: int
    got: int
    iterations: int
    converged: bool

    @property
    def message(self) -> str:
        """One line if the number reached is not what was asked for, or an empty string."""
        if abs(self.got - self.asked_for) <= MAX_DEVIATION * self.asked_for:
            return ""
        return (
            f"{self.got:,} supervoxels were found where {self.asked_for:,} were asked for: "
            f"{'raise' if self.got > self.asked_for else 'lower'} compactness or "
            f"{'raise' if self.got > self.asked_for else 'lower'} min_size_factor to come closer"
        )


@dataclass(frozen=True)
class Supervoxels:
    """A volume cut into connected pieces.

    Attributes
    ----------
    labels
        Array-like uint32 (z, y, x): 0 outside the mask, else 1..n without gaps, in the order of the first voxels.
    sizes
        int64 (n,), voxels of each.
    centers
        float64 (n, 3), mean voxel coordinates (z, y, x).
    graph
        Which of them touch.
    report
        How they came about.
    """

    labels: ArrayLike
    sizes: NDArray[np.int64]
    centers: NDArray[np.float64]
    graph: Adjacency
    report: SlicReport

    @property
    def n(self) -> int:
        """Number of supervoxels."""
        return len(self.sizes)

    def to_arrays(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return the tables as arrays, without the labels, and the report as data that JSON can hold."""
        tables = {"sizes": self.sizes, "centers": self.centers, "edges": self.graph.edges, "area": self.graph.area}
        return tables, asdict(self.report)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any], meta: Mapping[str, Any]) -> Self:
        """Return the supervoxels that `to_arrays` took apart; `arrays` holds the labels as well."""
        sizes, centers, edges, area = (np.asarray(arrays[name]) for name in ("sizes", "centers", "edges", "area"))
        graph = Adjacency(edges, area, len(sizes))
        return cls(arrays["labels"], sizes, centers, graph, SlicReport(**meta))
