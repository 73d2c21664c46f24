"""Options that several commands share, and their values as the library wants them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from voxloop.errors import InputError

if TYPE_CHECKING:
    from voxloop.blocks import Executor
    from voxloop.cli.output import Output
    from voxloop.project import Project


def add_project(parser: argparse.ArgumentParser) -> None:
    """Add the project folder that a command works on."""
    parser.add_argument("project", metavar="PROJECT", help="project folder, such as cells.voxloop")


def add_image_choice(parser: argparse.ArgumentParser) -> None:
    """Add the choice of one image of a project."""
    parser.add_argument("--image", type=int, default=0, metavar="N", help="which image of the project (default: 0)")


def add_voxel_size(parser: argparse.ArgumentParser) -> None:
    """Add what corrects the voxel size that an image file tells."""
    parser.add_argument(
        "--spacing",
        type=float,
        nargs=3,
        metavar=("Z", "Y", "X"),
        help="size of a voxel, in --unit (default: from the file)",
    )
    parser.add_argument("--unit", help="unit of the spacing, such as nanometer (default: from the file)")


def add_computing(parser: argparse.ArgumentParser) -> None:
    """Add what a command that computes may use; `open_project` obeys it."""
    parser.add_argument("--memory", metavar="SIZE", help="memory to use, such as 2GB (default: half of what is free)")
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes of this machine to use (default: threads instead)"
    )
    parser.add_argument(
        "--scheduler", metavar="ADDRESS", help="use the workers of a Dask scheduler, such as tcp://node1:8786"
    )


@contextmanager
def open_project(options: argparse.Namespace, output: Output) -> Iterator[Project]:
    """Open the project that a command works on, to compute with what `add_computing` lets the user choose."""
    from voxloop.project import Project

    with (
        chosen_executor(options) as chosen,
        Project.open(options.project, executor=chosen, progress=output.progress, memory=options.memory) as project,
    ):
        yield project


@contextmanager
def chosen_executor(options: argparse.Namespace) -> Iterator[Executor]:
    """Start or connect to a cluster if that is asked for; else there are threads."""
    choices = given(options, "threads", "workers", "scheduler")
    if len(choices) > 1:
        raise InputError(f"give one of {' and '.join(f'--{name}' for name in choices)}")
    if not choices.keys() & {"workers", "scheduler"}:
        yield executor(options)
        return
    from voxloop.distributed import connect, local_cluster

    with connect(options.scheduler) if options.scheduler is not None else local_cluster(options.workers) as cluster:
        yield cluster


def executor(options: argparse.Namespace) -> Executor:
    """Return the executor that `--threads` asks for."""
    from voxloop.blocks import SerialExecutor, ThreadExecutor, default_executor

    if options.threads is None:
        return default_executor()
    if options.threads < 1:
        raise InputError(f"--threads must be 1 or more, not {options.threads}")
    return SerialExecutor() if options.threads == 1 else ThreadExecutor(options.threads)


def given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Return those of the named options that were given."""
    values = {name: getattr(options, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def parse_assignments(option: str, texts: list[str]) -> dict[str, str]:
    """Return ``{"a": "b"}`` for ``["a=b"]``."""
    pairs = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not (separator and key and value):
            raise InputError(f"{option} takes KEY=VALUE, not {text!r}")
        pairs[key] = value
    return pairs
