"""Supervoxels: SLIC, labels of the user's own, their graph, and how good they are."""

from voxloop.supervoxels.model import Adjacency, SlicReport, Supervoxels
from voxloop.supervoxels.slic import slic

__all__ = ["Adjacency", "SlicReport", "Supervoxels", "slic"]
