"""From strokes to a class for every supervoxel."""

from voxloop.classify.autocontext import Classifier, LabelledImage, fit_classifier
from voxloop.classify.forest import Forest, fit_forest
from voxloop.classify.labels import SupervoxelLabels, label_supervoxels
from voxloop.classify.prediction import Prediction, look_up
from voxloop.classify.priors import correct_priors, estimate_priors

__all__ = [
    "Classifier",
    "Forest",
    "LabelledImage",
    "Prediction",
    "SupervoxelLabels",
    "correct_priors",
    "estimate_priors",
    "fit_classifier",
    "fit_forest",
    "label_supervoxels",
    "look_up",
]
