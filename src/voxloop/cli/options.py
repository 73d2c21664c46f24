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


def add_computing(parser: argparse.ArgumentParser) -> None:
    """Add what a command that computes may use; `open_project` obeys it."""
    parser.add_argument(
        "--memory", metavar="SIZE", help="memory for blocks, such as 2GB (default: half of what is free)"
    )


@contextmanager
def open_project(options: argparse.Namespace, output: Output) -> Iterator[Project]:
    """Open the project that a command works on, to compute as `--threads` and `--memory` say."""
    from voxloop.project import Project

    with Project.open(
        options.project, executor=executor(options), progress=output.progress, memory=options.memory
    ) as project:
        yield project


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
