"""The command line: thin commands over `voxloop.project`."""
