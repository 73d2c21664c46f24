"""Volumes with known classes, to try voxloop on and to measure it with."""

from voxloop.samples.brain import mni
from voxloop.samples.electron import phantom
from voxloop.samples.sample import Sample

__all__ = ["Sample", "mni", "phantom"]
