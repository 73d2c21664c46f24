"""`voxloop warmup`."""

from __future__ import annotations

import argparse
import time

from voxloop.cli.options import executor
from voxloop.cli.output import Output

HELP = "compile the kernels now, so that the first project does not wait for it"
EXAMPLES = """\
example:
  voxloop warmup
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options: there are none."""
    del parser


def run(options: argparse.Namespace, output: Output) -> None:
    """Run every kernel once on a tiny volume."""
    from voxloop.project import warm_up

    output.note("compiling kernels, once after installation ...")
    start = time.perf_counter()
    warm_up(executor=executor(options))
    seconds = time.perf_counter() - start
    output.result([f"ready ({seconds:.1f} s)"], {"seconds": seconds})
