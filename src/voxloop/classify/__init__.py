"""From strokes to a class for every supervoxel."""

from voxloop.classify.forest import Forest, fit_forest
from voxloop.classify.labels import SupervoxelLabels, label_supervoxels

__all__ = ["Forest", "SupervoxelLabels", "fit_forest", "label_supervoxels"]
