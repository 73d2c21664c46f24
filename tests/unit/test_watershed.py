from __future__ import annotations

import sys

import numpy as np
import pytest
from skimage.segmentation import watershed as skimage_watershed

from voxloop.blocks import Box, SerialExecutor, partition
from voxloop.cli.main import main
from voxloop.errors import Cancelled, InputError
from voxloop.io.scratch import Memory
from voxloop.kernels import watershed as kernel
from voxloop.project import Project
from voxloop.samples import phantom
from voxloop.specs import SlicSpec, digest_of
from voxloop.supervoxels import preview_supervoxels, slic
from voxloop.supervoxels.assignment import Tile, Tiles
from voxloop.supervoxels.grid import SeedGrid
from voxloop.supervoxels.watershed import flood
from voxloop.volume import Volume

SPEC = SlicSpec(method="watershed", size=60)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape)


@pytest.mark.parametrize("jitted", [True, False])
def test_gradient_against_numpy(jitted: bool) -> None:
    image = np.random.default_rng(0).integers(-900, 900, (4, 5, 6)).astype(np.int16)
    spacing = np.array([3.0, 1.0, 2.0])
    out = np.ones(image.shape, np.float32)
    (kernel.add_squared_gradient if jitted else kernel.add_squared_gradient.py_func)(image, spacing, out)
    expected = 1 + sum(g**2 for g in np.gradient(image.astype(np.float64), *spacing))
    np.testing.assert_allclose(out, expected, rtol=1e-5)


@pytest.mark.parametrize("jitted", [True, False])
def test_lowest_voxel_of_each_cell(jitted: bool) -> None:
    height = np.random.default_rng(1).integers(0, 9, (3, 4, 6)).astype(np.float32)
    inside = np.random.default_rng(2).random(height.shape) < 0.6
    inside[:, :2, :3] = False  # one cell lies outside
    cells = np.array([0, 0, 0]), np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1, 1, 1])
    lowest = kernel.lowest_of_cells if jitted else kernel.lowest_of_cells.py_func
    found = lowest(height, inside, *cells, (1, 2, 2))
    expected = []
    for y, x in ((0, 3), (2, 0), (2, 3)):
        part = np.where(inside, height, np.inf)[:, y : y + 2, x : x + 3]
        z, j, i = np.unravel_index(part.argmin(), part.shape)
        expected.append(np.ravel_multi_index((z, y + j, x + i), height.shape))
    np.testing.assert_array_equal(found, expected)


def test_basins_against_scikit_image() -> None:
    shape = (9, 12, 15)
    image = np.random.default_rng(3).permutation(np.prod(shape)).reshape(1, *shape).astype(np.int16) * 7
    tiles, (block,) = Tiles(Memory(), shape), partition(shape, shape)
    tiles.put(block, Tile(block.inner, image, np.empty((0, 0, 0), bool)))
    grid = SeedGrid(shape, (3, 4, 5), 3.0, np.full(3, 3.0), np.full(3, 1 / 3))
    found = flood(tiles, [block], shape, grid, (0, 0, 0), (1.0, 1.0, 1.0))
    assert found.n == 60
    height = np.sqrt(sum(g**2 for g in np.gradient(image[0].astype(np.float64))))
    markers = np.zeros(shape, int)
    for number, corner in enumerate(np.ndindex(3, 4, 5), start=1):
        cell = tuple(slice(3 * i, 3 * i + 3) for i in corner)
        at = np.unravel_index(height[cell].argmin(), (3, 3, 3))
        markers[cell][at] = number
    np.testing.assert_array_equal(np.unique(found.labels), np.arange(1, 61))
    # Ties are settled in an order of each library's own.
    assert (found.labels == skimage_watershed(height, markers)).mean() > 0.98


def test_blocks_do_not_show_and_all_are_connected_pieces() -> None:
    volume = Volume(noise(14, 20, 22), spacing=(2.0, 1.0, 1.0))
    mask = np.random.default_rng(1).random(volume.shape) < 0.8
    for inside in (None, mask):
        whole = slic(volume, SPEC, mask=inside, executor=SerialExecutor())
        parts = slic(volume, SPEC, mask=inside, block_shape=(6, 9, 7))
        np.testing.assert_array_equal(whole.labels, parts.labels)
        np.testing.assert_array_equal(whole.graph.area, parts.graph.area)
        np.testing.assert_array_equal(
            np.asarray(whole.labels) > 0, np.ones(volume.shape, bool) if inside is None else mask
        )
        np.testing.assert_array_equal(np.unique(whole.labels[whole.labels > 0]), np.arange(1, whole.n + 1))
    assert slic(volume, SPEC).n == pytest.approx(volume.n_voxels / 60, rel=0.3)


def test_boundaries_follow_edges() -> None:
    voxels = np.zeros((10, 20, 24), np.float32)
    voxels[:, :, 11:] = 100  # not where the grid cuts
    voxels += noise(*voxels.shape)
    labels = np.asarray(slic(Volume(voxels), SPEC.changed(sigma=0.5, coarse_sigma=0)).labels)
    assert not set(np.unique(labels[:, :, :10])) & set(np.unique(labels[:, :, 13:]))


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 30), (1, 20, 30), (2, 9, 1)])
def test_thin_and_constant_volumes(shape: tuple[int, int, int]) -> None:
    for voxels in (noise(*shape), np.full(shape, 7.0)):
        found = slic(Volume(voxels), SPEC)
        assert found.sizes.sum() == np.prod(shape)
        assert np.asarray(found.labels).min() == 1


def test_preview_and_cancelling() -> None:
    volume = Volume(noise(12, 30, 30))
    shown = preview_supervoxels(volume, Box((0, 5, 5), (12, 25, 25)), SPEC)
    assert shown.min() >= 1
    np.testing.assert_array_equal(preview_supervoxels(volume, volume.box, SPEC), slic(volume, SPEC).labels)

    def stop(stage: str, *_: int) -> None:
        if stage == "cutting":
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        slic(volume, SPEC, progress=stop)


def test_what_cannot_be_done_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="compactness is for the method slic"):
        SPEC.changed(compactness=1.0)
    volume = Volume(noise(40, 50, 60))
    with pytest.raises(InputError, match=r"a watershed of this volume needs 0\.0 GB of memory and may take 0\.0 GB"):
        slic(volume, SPEC, memory="1MB")
    monkeypatch.setitem(sys.modules, "bioimage_cpp", None)
    for refused in (lambda: slic(volume, SPEC), lambda: preview_supervoxels(volume, volume.box, SPEC)):
        with pytest.raises(InputError, match=r'needs bioimage-cpp: pip install "voxloop\[watershed\]"'):
            refused()


def test_the_digest_of_slic_is_what_it_was() -> None:
    fields = SlicSpec().model_dump(mode="json")
    assert fields.pop("method") == "slic"
    assert SlicSpec().digest == digest_of("SlicSpec", fields)
    assert SPEC.digest != SlicSpec(size=60).digest


def test_from_the_command_line_and_the_project(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    image = tmp_path / "image.npy"
    np.save(image, phantom((8, 32, 32), seed=0).image.data)
    project = str(tmp_path / "cells.voxloop")
    assert main(["new", project, str(image), "--class", "a", "--class", "b"]) == 0
    assert main(["supervoxels", project, "--size", "60", "--compactness", "0.5"]) == 0
    assert main(["supervoxels", project, "--method", "watershed"]) == 0
    with Project.open(project, read_only=True) as opened:
        assert opened.specs.slic == SPEC
        assert opened.is_current("supervoxels")
        np.testing.assert_array_equal(opened.supervoxels().labels, slic(Volume(np.load(image)), SPEC).labels)
    assert main(["supervoxels", project, "--compactness", "2"]) == 2
    assert "compactness is for the method slic" in capsys.readouterr().err
