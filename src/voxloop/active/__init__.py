"""Where the classifier is unsure, and where the next strokes help most."""

from voxloop.active.diverse import diverse_queue
from voxloop.active.geometry import (
    combined_uncertainty,
    contradiction,
    geometric_uncertainty,
    neighbour_graph,
    propagate,
)
from voxloop.active.patch import Patch, label_patch, resample_plane
from voxloop.active.planes import PlaneSuggestion, best_planes, cut_supervoxels
from voxloop.active.slices import N_TO_LABEL, SliceSuggestion, slices_to_label, suggest_slices
from voxloop.active.stopping import StopSignal, changed_share, cohen_kappa
from voxloop.active.strategies import (
    STRATEGIES,
    ForegroundAwareRandom,
    QueryState,
    ScoreStrategy,
    Strategy,
    make_strategy,
    strategy_of,
)
from voxloop.active.uncertainty import top_uncertain, uncertainty

__all__ = [
    "N_TO_LABEL",
    "STRATEGIES",
    "ForegroundAwareRandom",
    "Patch",
    "PlaneSuggestion",
    "QueryState",
    "ScoreStrategy",
    "SliceSuggestion",
    "StopSignal",
    "Strategy",
    "best_planes",
    "changed_share",
    "cohen_kappa",
    "combined_uncertainty",
    "contradiction",
    "cut_supervoxels",
    "diverse_queue",
    "geometric_uncertainty",
    "label_patch",
    "make_strategy",
    "neighbour_graph",
    "propagate",
    "resample_plane",
    "slices_to_label",
    "strategy_of",
    "suggest_slices",
    "top_uncertain",
    "uncertainty",
]
