"""`voxloop COMMAND ...`: parse, run, and turn errors into one line and an exit code."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

import voxloop
from voxloop.cli.interrupts import Interrupts
from voxloop.cli.output import Output
from voxloop.errors import Cancelled, VoxloopError

COMMANDS = (
    "demo",
    "info",
    "new",
    "add",
    "relink",
    "import-ilastik",
    "supervoxels",
    "features",
    "label",
    "train",
    "predict",
    "suggest",
    "export",
    "report",
    "table",
    "mesh",
    "batch",
    "export-model",
    "run",
    "simulate",
    "napari",
    "warmup",
)
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130

_DESCRIPTION = "Segment 3D volumes from a few brush strokes."
_EPILOG = """\
from an image to a segmentation:
  voxloop new cells.voxloop cells.tif --class background --class mitochondria
  voxloop label cells.voxloop --points points.csv      # columns z,y,x,class
  voxloop run cells.voxloop --export segmentation=cells-segmented.tif
  voxloop suggest cells.voxloop                        # where the next labels help most

`voxloop COMMAND --help` shows a command's options and examples.
"""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every other error does."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_BAD_INPUT, f"{self.prog}: {message}; see {self.prog} --help\n")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = _Parser(
        prog="voxloop",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"voxloop {voxloop.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        module = import_module(f"voxloop.cli.{name.replace('-', '_')}")
        command = commands.add_parser(
            name,
            help=module.HELP,
            description=module.HELP[0].upper() + module.HELP[1:] + ".",
            epilog=module.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.add_argument("--json", action="store_true", help="print one JSON object for machines")
        command.add_argument("--threads", type=int, metavar="N", help="processors to use (default: all)")
        command.add_argument("--debug", action="store_true", help="show a traceback when something fails")
        command.set_defaults(run=module.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, 2 for bad input, 130 after Ctrl-C, 1 for a fault or a batch with failures."""
    options = build_parser().parse_args(arguments)
    interrupts = Interrupts()
    output = Output(as_json=options.json, check=interrupts.check)
    try:
        with interrupts.watched():
            return options.run(options, output) or 0
    except KeyboardInterrupt:
        return _stopped(output)
    except VoxloopError as error:
        if options.debug and not isinstance(error, Cancelled):
            raise
        if interrupts.received:  # reading a file, a library made damage of it
            return _stopped(output)
        output.warn(str(error).replace("\n", " "))
        return EXIT_INTERRUPTED if isinstance(error, Cancelled) else EXIT_BAD_INPUT
    except BrokenPipeError:
        # The reader of our output has gone; Python would complain once more while it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        # Whatever it is, users see one line and an exit code of its own; --debug is for who mends it.
        if options.debug:
            raise
        if interrupts.received:  # a library made another error of it
            return _stopped(output)
        output.warn(f"internal error: {type(error).__name__}: {error} (--debug shows where)".replace("\n", " "))
        return 1


def _stopped(output: Output) -> int:
    output.warn("stopped; what was finished is kept")
    return EXIT_INTERRUPTED
