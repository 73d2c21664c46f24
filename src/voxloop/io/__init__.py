"""Reading and writing volumes.

Importing this costs nothing: the libraries below are imported with the first file of their format.
"""

from voxloop.io.formats import folder_of, format_to_write, name_without_suffix
from voxloop.io.inside import is_numbered, matching_files, source_exists
from voxloop.io.read import count_frames, open_labels, open_volume
from voxloop.io.sidecar import write_sidecar
from voxloop.io.write import create_volume, save_volume
from voxloop.io.writers import VolumeWriter

__all__ = [
    "VolumeWriter",
    "count_frames",
    "create_volume",
    "folder_of",
    "format_to_write",
    "is_numbered",
    "matching_files",
    "name_without_suffix",
    "open_labels",
    "open_volume",
    "save_volume",
    "source_exists",
    "write_sidecar",
]
