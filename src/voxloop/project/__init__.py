"""Projects: images, labels and results in a folder that survives a crash."""

from voxloop.project.folder import PALETTE, is_project
from voxloop.project.ilastik import IlastikImport, import_ilastik
from voxloop.project.project import Project
from voxloop.project.warmup import warm_up

__all__ = ["PALETTE", "IlastikImport", "Project", "import_ilastik", "is_project", "warm_up"]
