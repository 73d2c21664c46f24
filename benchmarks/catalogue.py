"""All benchmarks, in the order of the table."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks import features, forests, scaling, supervoxels
from benchmarks.measure import Comparison, Size

BENCHMARKS: tuple[Callable[[Size], Comparison], ...] = (
    supervoxels.slic_scikit_image,
    supervoxels.slic_simpleitk,
    supervoxels.graph_cc3d,
    supervoxels.graph_bioimage_cpp,
    features.bank_epfl,
    features.bank_fib25,
    features.bank_pooled_epfl,
    features.bank_pooled_fib25,
    features.bank_coarse,
    features.voxels_scikit_image,
    features.voxels_scipy,
    forests.forest_fit,
    forests.forest_predict,
    forests.live_screen,
    forests.live_update,
    forests.plane_search,
    scaling.training_grows,
    scaling.prediction_grows,
    scaling.machine_threads,
    scaling.machine_vector_threads,
    scaling.slic_threads,
    scaling.graph_threads,
    scaling.features_threads,
    scaling.prediction_threads,
    scaling.slic_processes,
    scaling.features_processes,
)
