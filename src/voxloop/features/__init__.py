"""Filter features of voxels, pooled over supervoxels as they are computed."""

from voxloop.features.context import (
    average_neighbours,
    average_within_regions,
    context_names,
    join_lazily,
    region_names,
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
    "average_within_regions",
    "compute_features",
    "compute_own",
    "compute_scale",
    "context_names",
    "filter_block",
    "halo",
    "join_lazily",
    "own_columns",
    "pool_volume",
    "preview_feature",
    "region_names",
    "scale_channels",
    "scale_columns",
    "volume_columns",
    "voxel_features",
    "walk_within_regions",
    "with_context",
]
