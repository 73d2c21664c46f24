"""Statistics of the responses against numpy, in blocks and in one piece; volumes of the user's own."""

from __future__ import annotations

import numpy as np
import pytest

from voxloop.blocks import SerialExecutor, ThreadExecutor, partition
from voxloop.errors import InputError
from voxloop.features import compute_scale, filter_block, pool_volume
from voxloop.features.statistics import N_BINS, Bins, BlockStatistics, Collected, Table
from voxloop.kernels.pooling import add_extremes, add_histogram
from voxloop.specs import FeatureSpec, Statistic
from voxloop.volume import Volume

ALL: tuple[Statistic, ...] = ("mean", "std", "min", "max", "q10", "q50", "q90")
SERIAL = SerialExecutor()


def scene(shape: tuple[int, ...] = (21, 25, 31), side: int = 7) -> tuple[np.ndarray, np.ndarray, int]:
    """Return noise and ids in boxes, some of them two pieces far apart, some voxels outside."""
    rng = np.random.default_rng(3)
    z, y, x = np.indices(shape[:3]) // side
    labels = (z * 100 + y * 10 + x) % 211 + 1
    labels[4, :9] = 0
    ids, labels = np.unique(labels, return_inverse=True)
    return rng.normal(100, 20, shape).astype(np.float32), labels.reshape(shape[:3]).astype(np.uint32), len(ids) - 1


def numpy_statistics(responses: np.ndarray, labels: np.ndarray, n: int) -> np.ndarray:
    """Return (n, 7, k) by numpy; quantiles are order statistics."""
    rows = []
    for i in range(1, n + 1):
        inside = responses[:, labels == i].astype(np.float64)
        quantiles = np.quantile(inside, [0.1, 0.5, 0.9], axis=1, method="inverted_cdf")
        rows.append([inside.mean(1), inside.std(1), inside.min(1), inside.max(1), *quantiles])
    return np.array(rows)


@pytest.mark.parametrize("block_shape", [None, (8, 11, 9)])
def test_all_statistics_agree_with_numpy(block_shape: tuple[int, int, int] | None) -> None:
    image, labels, n = scene()
    table = compute_scale(
        Volume(image), labels, n, 1.0, FeatureSpec(statistics=ALL), block_shape=block_shape, executor=SERIAL
    )
    assert table.names[20] == "gaussian sigma=1 min"
    assert table.names[-1] == "hessian_3 sigma=1 q90"
    responses = filter_block(image, 1.0)
    expected = numpy_statistics(responses, labels, n)
    ours = table.values.reshape(n, 7, 10)
    spread = np.ptp(responses.reshape(10, -1), axis=1)
    np.testing.assert_allclose(ours[:, :4] / spread, expected[:, :4] / spread, atol=1e-5)
    # The eight cubes span less than the volume, so a bin is narrower than 1/62 of it, but for the open ones.
    error = abs(ours[:, 4:] - expected[:, 4:]) / spread
    assert error.max() < 0.1
    assert np.quantile(error, 0.99) < 1 / 62
    assert (ours[:, 4:] >= ours[:, 2:3]).all()
    assert (ours[:, 4:] <= ours[:, 3:4]).all()
    assert (np.diff(ours[:, 4:], axis=1) >= 0).all()


def test_executors_and_the_order_of_statistics_change_nothing() -> None:
    image, labels, n = scene()
    settings = {"block_shape": (8, 11, 9)}
    spec = FeatureSpec(statistics=ALL)
    one, two = (
        compute_scale(Volume(image), labels, n, 0.7, spec, executor=executor, **settings)  # type: ignore[arg-type]
        for executor in (SERIAL, ThreadExecutor(2))
    )
    assert one.values.tobytes() == two.values.tobytes()
    few = compute_scale(Volume(image), labels, n, 0.7, FeatureSpec(statistics=("q50", "min")), **settings)  # type: ignore[arg-type]
    np.testing.assert_array_equal(few.values, one.values.reshape(n, 7, 10)[:, [5, 2]].reshape(n, 20))


def test_quantiles_within_the_bins_are_off_by_less_than_one() -> None:
    values = np.random.default_rng(0).gamma(2.0, 3.0, (3, 5000)).astype(np.float32)
    bins = Bins.between(np.zeros(3, np.float32), np.full(3, 60, np.float32))
    known = Collected.nothing(1, 3, ("q10", "q50", "q90"))
    known.observe(values, np.array([0, 5000], np.int32), np.array([1], np.int32), bins)
    ours = known.columns(np.array([5000]), ("q10", "q50", "q90"), bins).reshape(3, 3)
    expected = np.quantile(values, [0.1, 0.5, 0.9], axis=1, method="inverted_cdf")
    assert (abs(ours - expected) < 60 / (N_BINS - 2)).all()


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "source"])
def test_extremes_and_histograms_by_hand(compiled: bool) -> None:
    extremes, histogram = (k if compiled else k.py_func for k in (add_extremes, add_histogram))
    responses = np.array([[9, -1e30, 0.5, 1.5, 1e30, 2.5]], np.float32)
    starts, numbers = np.array([3, 4, 6, 9], np.int32), np.array([0, 1, 2], np.int32)
    low, high = np.full((2, 1), np.inf, np.float32), np.full((2, 1), -np.inf, np.float32)
    counts = np.zeros((2, 1, 3), np.uint32)
    extremes(responses, starts, numbers, low, high)
    histogram(responses, starts, numbers, np.zeros(1, np.float32), np.ones(1, np.float32), counts)
    assert low[:, 0].tolist() == [np.float32(-1e30), 1.5]
    assert high[:, 0].tolist() == [0.5, np.float32(1e30)]
    assert counts[:, 0].tolist() == [[2, 0, 0], [0, 1, 2]]


def test_a_table_keeps_the_open_supervoxels_only() -> None:
    labels = np.repeat(np.arange(1, 401, dtype=np.uint32), 30).reshape(100, 4, 30)
    volume = Volume(np.ones(labels.shape, np.uint8))
    table = Table(np.empty((400, 1), np.float32), np.full(400, 30), ("mean",), [Bins(np.zeros(1), np.ones(1))])
    for block in partition(labels.shape, (1, 4, 15)):
        part, counts = np.unique(labels[block.inner.slices], return_counts=True)
        known = Collected.nothing(len(part), 1, ("mean",))
        known.sums[:] = counts[:, np.newaxis]
        table.add(BlockStatistics(part.astype(np.int64), counts, [known]))
    table.close()
    assert len(table._counts) <= 8
    assert (table._out == 1).all()
    assert pool_volume(volume, labels, 400).values[:, 0].tolist() == [1] * 400


def test_sizes_that_do_not_fit_are_refused() -> None:
    image, labels, n = scene()
    sizes = np.bincount(labels.ravel())[1:]
    right = compute_scale(Volume(image), labels, n, 0.3, sizes=sizes, executor=SERIAL)
    np.testing.assert_array_equal(right.values, compute_scale(Volume(image), labels, n, 0.3, executor=SERIAL).values)
    sizes[4] += 1
    with pytest.raises(InputError, match=f"sizes says that supervoxel 5 has {sizes[4]} voxels, not {sizes[4] - 1}"):
        compute_scale(Volume(image), labels, n, 0.3, sizes=sizes, executor=SERIAL)


def test_a_volume_of_ones_own_is_pooled_as_it_is() -> None:
    embedding, labels, n = scene((21, 25, 31, 9))
    volume = Volume(embedding, name="embedding")
    out = np.empty((n, 18), np.float32)
    table = pool_volume(volume, labels, n, out=out, executor=SERIAL)
    assert table.values is out
    assert table.names[0] == "embedding channel_1 mean"
    assert table.names[-1] == "embedding channel_9 std"
    expected = numpy_statistics(np.moveaxis(embedding, -1, 0), labels, n)[:, :2].reshape(n, 18)
    np.testing.assert_allclose(out, expected, rtol=1e-4)
    single = pool_volume(Volume(embedding[..., 3], name="probability"), labels, n, statistics=("mean",))
    assert single.names == ("probability mean",)
    np.testing.assert_array_equal(single.values[:, 0], out[:, 3])


def test_a_volume_of_ones_own_that_does_not_fit_is_refused() -> None:
    values, labels, n = scene()
    with pytest.raises(InputError, match=r"labels has shape .* but probability has shape \(20, 25, 31\)"):
        pool_volume(Volume(values[:-1], name="probability"), labels, n)
    values[3, 4, 5] = np.nan
    with pytest.raises(InputError, match="voxels must be finite"):
        pool_volume(Volume(values), labels, n)
    with pytest.raises(InputError, match=r"out is float64 of shape \(3, 2\); expected float32"):
        pool_volume(Volume(np.ones(labels.shape)), labels, n, out=np.zeros((3, 2)))  # type: ignore[arg-type]
