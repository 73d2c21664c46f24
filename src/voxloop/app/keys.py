"""The keys of the whole loop, as they are bound, as F1 lists them, and as the command palette offers them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Key:
    """A key, what it does, and the method of the controller that it calls.

    Without a method it is a digit, which the controller knows; without a key it is in the palette only.
    """

    key: str
    shown: str
    does: str
    action: str


STEPS = ("Data", "Supervoxels", "Features", "Label", "Export")

KEYS = (
    Key("", "1 - 9", "paint with that class; in a review: it is that class", ""),
    Key("0", "0", "eraser", "erase"),
    Key("Control-Z", "Ctrl+Z", "undo", "undo"),
    Key("Control-Shift-Z", "Ctrl+Shift+Z", "redo", "redo"),
    Key("W", "W", "paint whole supervoxels, or a trail again", "toggle_whole"),
    Key("F", "F", "fill a closed outline, or paint again", "toggle_fill"),
    Key("G", "G", "draw a polygon, or paint again", "toggle_polygon"),
    Key("Shift-L", "Shift+L", "live update on or off", "toggle_live"),
    Key("Shift-U", "Shift+U", "update once; computes what is missing first", "update_now"),
    Key("N", "N", "suggest the next slice to label; again: skip it", "slices.suggest"),
    Key("Shift-N", "Shift+N", "back to the slice before", "slices.back"),
    Key("P", "P", "suggest the next plane to label; again: skip it", "plane.suggest"),
    Key("Shift-P", "Shift+P", "back to the plane before", "plane.back"),
    Key("L", "L", "in the plane: two clicks draw a line, each side becomes a class", "plane.draw_line"),
    Key("X", "X", "in the plane: swap the sides of the line", "plane.swap"),
    Key("A", "A", "in the plane: all of it is the chosen class", "plane.answer_all"),
    Key("R", "R", "start or end a review of uncertain supervoxels", "review.toggle"),
    Key("Enter", "Enter", "in a review: the prediction is right", "review.confirm"),
    Key("Backspace", "Backspace", "in a review: skip this one", "review.skip"),
    Key("S", "S", "prediction", "toggle_prediction"),
    Key("U", "U", "uncertainty", "toggle_uncertainty"),
    Key("O", "O", "outlines of the supervoxels", "toggle_outlines"),
    Key("H", "H", "hatch over the most uncertain", "toggle_hatch"),
    Key("K", "K", "over-segmentation: the supervoxels in many colours", "toggle_pieces"),
    Key("Q", "Q", "probability of the class that the brush paints", "toggle_probability"),
    Key("M", "M", "this slice decided voxel by voxel, or by supervoxels again", "refined.toggle"),
    Key("V", "V", "look along the next axis: xy, xz, yz", "turn"),
    Key("B", "B", "side views: yz beside, xz below", "sides.toggle"),
    Key("C", "C", "bring all views to the mouse pointer", "place_at_pointer"),
    Key("D", "D", "the segmentation in 3D", "solid.toggle"),
    Key("T", "T", "list of strokes; conflicts; import", "toggle_strokes"),
    Key("Shift-Escape", "Shift+Esc", "stop what is being computed", "cancel"),
    Key("F1", "F1", "this list", "toggle_help"),
    Key("", "", "compute supervoxels", "compute_supervoxels"),
    Key("", "", "compute features", "compute_features"),
    Key("", "", "import the selected layer as labels", "overview.import_layer"),
    Key("", "", "suggest features", "features.suggest"),
    Key("", "", "show the next supervoxel with strokes of several classes", "overview.next_conflict"),
)

HELP_LINE = "1-9 class, 0 eraser, N suggest slice, P plane, R review, F1 all keys; hold Space to move the view"
