"""What an answer to a suggested plane labels: the voxels that its patch shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike as ArrayInput
from numpy.typing import NDArray

from voxloop.active import Patch, PlaneSuggestion, label_patch, resample_plane
from voxloop.errors import InputError
from voxloop.project.annotations import Group, Stroke
from voxloop.project.runs import runs_from_points

if TYPE_CHECKING:
    from voxloop.project.project import Project


def label_plane(
    project: Project,
    plane: PlaneSuggestion,
    classes: str | int | tuple[str | int, str | int],
    *,
    line: ArrayInput | None,
    image: int,
) -> dict[int, int]:
    """Label what a patch shows; see `Project.label_plane`."""
    if isinstance(classes, tuple):
        left, right = classes
        sides: int | tuple[int, int] = (project.class_id(left), project.class_id(right))
    else:
        sides = project.class_id(classes)
    supervoxels, spacing = project.supervoxels(image), project.images[image].spacing
    patch = resample_plane(project.volume(image), supervoxels.labels, plane)
    shown = np.setdiff1d(patch.supervoxels[patch.inside], [0, *project.labels(image).ids])
    if shown.size == 0:
        raise InputError("plane shows no supervoxel without a label: there is nothing to answer")
    answers = label_patch(plane, supervoxels.centers, classes=sides, line=line, supervoxels=shown, spacing=spacing)
    project.append(Group(edits=patch_strokes(patch, answers, image=image)))
    return answers


def patch_strokes(patch: Patch, answers: dict[int, int], *, image: int) -> tuple[Stroke, ...]:
    """Return a stroke for each class, of the voxels in a patch whose supervoxels got it; none if there are none."""
    class_of = np.zeros(int(patch.supervoxels.max()) + 1, np.int64)
    class_of[list(answers)] = list(answers.values())
    classes: NDArray[np.int64] = np.where(patch.inside, class_of[patch.supervoxels], 0)
    return tuple(
        Stroke(
            image=image,
            class_id=class_id,
            runs=runs_from_points(patch.voxels[classes == class_id]),
            source="plane",
        )
        for class_id in sorted(set(answers.values()))
    )
