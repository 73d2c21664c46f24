"""`voxloop napari`."""

from __future__ import annotations

import argparse
from pathlib import Path

from voxloop.cli.output import Output
from voxloop.errors import InputError, MissingFileError

HELP = "open the app: label, watch the prediction, export"
EXAMPLES = """\
examples:
  voxloop napari                    # then open an image or a project in the dock
  voxloop napari cells.tif          # makes the project cells.voxloop beside it, or opens it
  voxloop napari cells.voxloop
  voxloop napari --sample try.voxloop  # an EM-like volume with mitochondria to find
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("path", metavar="IMAGE_OR_PROJECT", nargs="?", help="what to open")
    parser.add_argument(
        "--sample", metavar="PROJECT", help="make this project of the sample volume, or open it if it is there"
    )


def run(options: argparse.Namespace, output: Output) -> None:
    """Open a window and wait until it is closed."""
    from voxloop.project import is_project
    from voxloop.samples import phantom

    if options.path and options.sample:
        raise InputError("give an image or a project, or --sample, not both")
    if options.path and not Path(options.path).exists():
        raise MissingFileError(f"{options.path} does not exist")
    try:
        import napari
    except ImportError:
        raise InputError('the app needs napari: pip install "voxloop[napari]"') from None
    output.note("opening the window ...")
    viewer = napari.Viewer(title="voxloop")
    # The dock is asked for by the plugin's name: the command line does not import the app.
    _, dock = viewer.window.add_plugin_dock_widget("voxloop")
    if options.sample and not is_project(options.sample):
        dock.controller.create(options.sample, phantom().image)
    elif path := options.path or options.sample:
        dock.open_path(path)
    napari.run()
    output.result(["closed"], {"path": options.path or options.sample})
