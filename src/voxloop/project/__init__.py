"""Projects: images, labels and results in a folder that survives a crash."""

from voxloop.project.annotations import PALETTE
from voxloop.project.batch_images import BatchImage
from voxloop.project.batching import BatchItem, batch
from voxloop.project.folder import is_project
from voxloop.project.ilastik import IlastikImport, import_ilastik
from voxloop.project.model_file import Model
from voxloop.project.project import Project
from voxloop.project.warmup import warm_up

__all__ = [
    "PALETTE",
    "BatchImage",
    "BatchItem",
    "IlastikImport",
    "Model",
    "Project",
    "batch",
    "import_ilastik",
    "is_project",
    "warm_up",
]
