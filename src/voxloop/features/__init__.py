"""Filter features of voxels, pooled over supervoxels as they are computed."""

from voxloop.features.context import (
    average_neighbours,
    context_names,
    describe_regions,
    join_lazily,
    n_columns,
    region_names,
    typical,
    walk_within_regions,
    with_context,
)
from voxloop.features.filters import filter_block, preview_feature, scale_channels
from voxloop.features.own import compute_own, own_columns
from voxloop.features.scales import halo
from voxloop.features.table import (
    FeatureTable,
    compute_features,
    compute_scale,
    pool_volume,
    scale_columns,
    volume_columns,
)
from voxloop.features.voxels import voxel_features

__all__ = [
    "FeatureTable",
    "average_neighbours",
    "compute_features",
    "compute_own",
    "compute_scale",
    "context_names",
    "describe_regions",
    "filter_block",
    "halo",
    "join_lazily",
    "n_columns",
    "own_columns",
    "pool_volume",
    "preview_feature",
    "region_names",
    "scale_channels",
    "scale_columns",
    "typical",
    "volume_columns",
    "voxel_features",
    "walk_within_regions",
    "with_context",
]
