"""The napari plugin: layers, one dock with five steps, and keys; all state and all work are in `voxloop.project`."""
