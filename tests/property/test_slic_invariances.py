"""What must not change the supervoxels: blocks, threads, units, offset and scale of the intensities."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from voxloop.blocks import SerialExecutor, ThreadExecutor
from voxloop.specs import SlicSpec
from voxloop.supervoxels import Supervoxels, from_labels, slic
from voxloop.volume import Volume

shapes = st.tuples(*[st.integers(1, 22)] * 3)
spacings = st.tuples(*[st.sampled_from([1.0, 1.7, 5.0, 0.3])] * 3)
specs = st.builds(
    SlicSpec,
    size=st.floats(1, 200),
    compactness=st.sampled_from([0.01, 0.3, 3.0]),
    max_num_iter=st.integers(1, 4),
    sigma=st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    coarse_sigma=st.sampled_from([0.0, 2.0, 4.0]),
    min_size_factor=st.sampled_from([0.0, 0.25, 1.0]),
)


@st.composite
def problems(draw: st.DrawFn) -> tuple[Volume, np.ndarray | None]:
    shape = draw(shapes)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n_channels = draw(st.integers(1, 3))
    voxels = rng.normal(size=(*shape, n_channels)) if n_channels > 1 else rng.normal(size=shape)
    mask = None
    if draw(st.booleans()):
        mask = rng.random(shape) < draw(st.sampled_from([0.05, 0.5, 0.95]))
        mask.flat[draw(st.integers(0, mask.size - 1))] = True
    return Volume(voxels, spacing=draw(spacings)), mask


def assert_same_bytes(a: Supervoxels, b: Supervoxels) -> None:
    assert a.report == b.report
    assert np.asarray(a.labels).tobytes() == np.asarray(b.labels).tobytes()
    tables, others = a.to_arrays()[0], b.to_arrays()[0]
    for name, table in tables.items():
        assert (name, table.dtype, table.tobytes()) == (name, others[name].dtype, others[name].tobytes())


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(problems(), specs, st.tuples(*[st.integers(3, 22)] * 3), st.sampled_from([1, 2]))
def test_blocks_and_threads_do_not_show(problem, spec, block_shape, n_workers) -> None:
    volume, mask = problem
    whole = slic(volume, spec, mask=mask, executor=SerialExecutor())
    executor = ThreadExecutor(n_workers)
    assert_same_bytes(whole, slic(volume, spec, mask=mask, block_shape=block_shape, executor=executor))
    # Labels of one's own take the same way from there on.
    spacing = volume.spacing
    again = from_labels(whole.labels, spacing=spacing, mask=mask, block_shape=block_shape, executor=executor)
    np.testing.assert_array_equal(again.labels, whole.labels)
    np.testing.assert_array_equal(again.graph.matrix().toarray(), whole.graph.matrix().toarray())
    np.testing.assert_array_equal(again.centers, whole.centers)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(problems(), specs)
def test_supervoxels_are_a_partition_in_order(problem, spec) -> None:
    volume, mask = problem
    found = slic(volume, spec, mask=mask, executor=SerialExecutor())
    labels = np.asarray(found.labels)
    np.testing.assert_array_equal(labels > 0, np.ones(volume.shape, bool) if mask is None else mask)
    ids, first, sizes = np.unique(labels[labels > 0], return_index=True, return_counts=True)
    np.testing.assert_array_equal(ids, np.arange(1, found.n + 1))
    assert (np.diff(first) > 0).all()
    np.testing.assert_array_equal(sizes, found.sizes)
    for k in (1, found.n):
        np.testing.assert_allclose(found.centers[k - 1], np.argwhere(labels == k).mean(axis=0))
    # Only islands of the mask are small for good.
    n_inside = int(found.sizes.sum())
    alone = np.setdiff1d(ids, found.graph.edges)
    asked = found.report.asked_for
    if mask is None and found.n > 1:
        assert found.sizes.min() >= min(spec.min_size_factor, 0.25) * n_inside / (2 * asked)
    assert (found.graph.matrix().sum(axis=1)[alone - 1] == 0).all()


@pytest.mark.parametrize("unit", [1e-9, 1000.0])
def test_the_unit_of_the_spacing_does_not_show(unit: float) -> None:
    voxels = np.random.default_rng(0).normal(size=(8, 20, 20))
    spec = SlicSpec(size=50)
    # Powers of two keep the ratios exact.
    a = slic(Volume(voxels, spacing=(4.0, 1.0, 2.0)), spec)
    assert_same_bytes(a, slic(Volume(voxels, spacing=(4 * unit, unit, 2 * unit)), spec))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.float32])
def test_the_type_of_the_voxels_does_not_show(dtype: type) -> None:
    voxels = np.random.default_rng(0).integers(0, 255, (12, 14, 16))
    spec = SlicSpec(size=50)
    assert_same_bytes(slic(Volume(voxels), spec), slic(Volume(voxels.astype(dtype)), spec))


def test_offset_and_scale_do_not_show() -> None:
    voxels = np.random.default_rng(0).integers(0, 255, (12, 14, 16)).astype(np.float64)
    a, b = (slic(Volume(v), SlicSpec(size=50)) for v in (voxels, 4 * voxels - 1000))
    assert (np.asarray(a.labels) == np.asarray(b.labels)).mean() > 0.999  # the mean is rounded before it is taken off


def test_channels_in_another_order_are_the_same_image() -> None:
    voxels = np.random.default_rng(0).normal(size=(12, 14, 16, 3))
    spec = SlicSpec(size=50)
    a, b = slic(Volume(voxels), spec), slic(Volume(voxels[..., ::-1]), spec)
    assert (np.asarray(a.labels) == np.asarray(b.labels)).mean() > 0.99  # float sums over channels in another order
