"""From strokes to a class for every supervoxel."""

from voxloop.classify.assessment import Assessment
from voxloop.classify.autocontext import Classifier, Opinions, fit_classifier, fit_first
from voxloop.classify.calibration import Calibration, fit_calibration
from voxloop.classify.forest import Forest, fit_forest
from voxloop.classify.held_out import HeldOut
from voxloop.classify.importance import CellGain
from voxloop.classify.labelled import LabelledImage
from voxloop.classify.labels import SupervoxelLabels, label_supervoxels
from voxloop.classify.prediction import Prediction, look_up
from voxloop.classify.priors import correct_priors, estimate_priors

__all__ = [
    "Assessment",
    "Calibration",
    "CellGain",
    "Classifier",
    "Forest",
    "HeldOut",
    "LabelledImage",
    "Opinions",
    "Prediction",
    "SupervoxelLabels",
    "correct_priors",
    "estimate_priors",
    "fit_calibration",
    "fit_classifier",
    "fit_first",
    "fit_forest",
    "label_supervoxels",
    "look_up",
]
