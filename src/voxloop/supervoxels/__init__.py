"""Supervoxels: SLIC, labels of the user's own, their graph, and how good they are."""

from voxloop.supervoxels.intensity import Intensities, measure_intensities
from voxloop.supervoxels.model import Adjacency, SlicReport, Supervoxels
from voxloop.supervoxels.own import from_labels
from voxloop.supervoxels.preview import preview_supervoxels
from voxloop.supervoxels.quality import OracleIoU, Quality, explained_variation, oracle_iou, quality
from voxloop.supervoxels.slic import slic

__all__ = [
    "Adjacency",
    "Intensities",
    "OracleIoU",
    "Quality",
    "SlicReport",
    "Supervoxels",
    "explained_variation",
    "from_labels",
    "measure_intensities",
    "oracle_iou",
    "preview_supervoxels",
    "quality",
    "slic",
]
