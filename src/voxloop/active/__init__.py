"""Where the classifier is unsure, and where the next strokes help most."""

from voxloop.active.slices import SliceSuggestion, suggest_slices
from voxloop.active.uncertainty import top_uncertain, uncertainty

__all__ = ["SliceSuggestion", "suggest_slices", "top_uncertain", "uncertainty"]
