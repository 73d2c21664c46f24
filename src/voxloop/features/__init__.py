"""Filter features of voxels, pooled over supervoxels as they are computed."""

from voxloop.features.context import join_lazily, with_context
from voxloop.features.filters import filter_block, preview_feature, scale_channels
from voxloop.features.scales import halo
from voxloop.features.table import FeatureTable, compute_features, compute_scale, pool_volume, scale_columns

__all__ = [
    "FeatureTable",
    "compute_features",
    "compute_scale",
    "filter_block",
    "halo",
    "join_lazily",
    "pool_volume",
    "preview_feature",
    "scale_channels",
    "scale_columns",
    "with_context",
]
