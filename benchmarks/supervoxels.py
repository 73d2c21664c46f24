"""SLIC and the graph of supervoxels against scikit-image, SimpleITK, bioimage-cpp and cc3d."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bioimage_cpp as bic
import cc3d
import numpy as np
import SimpleITK as sitk  # noqa: N813 - its own documentation's name
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import slic as skimage_slic

from benchmarks.measure import Comparison, Size
from benchmarks.scenes import Scene, scene, side_by_side, tissue
from voxloop.specs import SlicSpec
from voxloop.supervoxels import Supervoxels, from_labels, oracle_iou, quality, slic
from voxloop.volume import Volume

STEP = 7  # voxels between two seeds: one supervoxel per 343 voxels
COMPACTNESS = 0.3
ITERATIONS = 10
MAX_DIFFERENCE = 0.1  # of the numbers of supervoxels, for "the same number"

Labels = NDArray[Any]


def slic_scikit_image(size: Size) -> Comparison:
    """Return the comparison with `skimage.segmentation.slic`."""
    shown = scene(size)
    image = _standardised(shown.image)
    n = round(image.size / STEP**3)
    compactness = COMPACTNESS / float(np.ptp(image))  # it scales the image to 0..1

    def theirs() -> Labels:
        return skimage_slic(image, n, compactness, ITERATIONS, channel_axis=None)

    return _at_equal_count("scikit-image slic", shown, theirs)


def slic_simpleitk(size: Size) -> Comparison:
    """Return the comparison with ITK's `SLICImageFilter`."""
    shown = scene(size)
    image = sitk.GetImageFromArray(_standardised(shown.image))
    peer = sitk.SLICImageFilter()
    peer.SetSuperGridSize([STEP] * 3)
    peer.SetSpatialProximityWeight(COMPACTNESS)
    peer.SetMaximumNumberOfIterations(ITERATIONS)
    peer.SetEnforceConnectivity(True)

    def theirs() -> Labels:
        return sitk.GetArrayFromImage(peer.Execute(image)) + 1

    return _at_equal_count("SimpleITK SLICImageFilter", shown, theirs)


def _standardised(volume: Volume) -> NDArray[np.float32]:
    """Return the smoothed image with unit variance, so that compactness means the same to the peers as to us."""
    smooth = ndimage.gaussian_filter(volume.read()[0].astype(np.float32), 1.0)
    return (smooth - smooth.mean()) / smooth.std()


def _at_equal_count(peer: str, shown: Scene, theirs: Callable[[], Labels]) -> Comparison:
    """Compare at the number of supervoxels that the peer reaches, which is not the number it is asked for."""
    n_theirs = len(np.unique(theirs()))
    n_asked = round(n_theirs * n_theirs / _slic(shown.image, n_theirs).n)
    return Comparison(
        name="SLIC",
        work=f"{shown.name}, {side_by_side(shown.image.shape)}, {n_theirs:,} supervoxels, {ITERATIONS} iterations",
        peer=peer,
        ours=lambda: _slic(shown.image, n_asked),
        theirs=theirs,
        check=lambda mine, other: _compare_quality(shown, mine, other),
    )


def _slic(image: Volume, n: int) -> Supervoxels:
    return slic(
        image, SlicSpec(n_segments=n, compactness=COMPACTNESS, sigma=1.0, coarse_sigma=0.0, max_num_iter=ITERATIONS)
    )


def _compare_quality(shown: Scene, ours: Supervoxels, theirs: Labels) -> dict[str, float]:
    n_theirs = len(np.unique(theirs))
    assert abs(ours.n - n_theirs) <= MAX_DIFFERENCE * n_theirs, f"{ours.n} supervoxels against {n_theirs}"
    figures = {"supervoxels": float(ours.n), "theirs": float(n_theirs)}
    for name, labels in (("", ours.labels), (" theirs", theirs)):
        reached = quality(labels, shown.segments, ignore=0)
        figures[f"UE{name}"] = reached.undersegmentation_error
        figures[f"ASA{name}"] = reached.achievable_accuracy
        figures[f"oracle IoU{name}"] = oracle_iou(labels, shown.classes).mean
    return figures


def graph_cc3d(size: Size) -> Comparison:
    """Return the comparison with `cc3d.contacts`: which supervoxels touch, and on how many faces."""

    def check(ours: Supervoxels, theirs: dict[tuple[int, int], float]) -> dict[str, float]:
        pairs = np.array(sorted(theirs))
        np.testing.assert_array_equal(ours.graph.edges, pairs)
        np.testing.assert_array_equal(ours.graph.area, [theirs[a, b] for a, b in pairs])
        return {"contacts": float(len(pairs))}

    labels, work = _labels_to_link(size)
    return Comparison(
        name="graph",
        work=work,
        peer="cc3d contacts",
        ours=lambda: from_labels(labels),
        theirs=lambda: cc3d.contacts(labels, connectivity=6, surface_area=True),
        check=check,
    )


def graph_bioimage_cpp(size: Size) -> Comparison:
    """Return the comparison with bioimage-cpp's region adjacency graph, which has no areas."""

    def check(ours: Supervoxels, theirs: Any) -> dict[str, float]:
        edges = np.asarray(theirs.uv_ids())
        np.testing.assert_array_equal(ours.graph.edges, edges)
        return {"contacts": float(len(edges))}

    labels, work = _labels_to_link(size)
    return Comparison(
        name="graph",
        work=work,
        peer="bioimage-cpp region_adjacency_graph (no areas)",
        ours=lambda: from_labels(labels),
        theirs=lambda: bic.graph.region_adjacency_graph(labels),
        check=check,
    )


def _labels_to_link(size: Size) -> tuple[Labels, str]:
    shape = {"test": (12, 24, 28), "quick": (64, 128, 128), "full": (128, 256, 256)}[size]
    cut = slic(tissue(shape), SlicSpec(size=float(STEP**3)))
    return np.asarray(cut.labels), f"{side_by_side(shape)}, {cut.n:,} supervoxels"
