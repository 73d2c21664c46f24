"""Help texts: complete, quick, and true."""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys

import pytest

from voxloop.cli.export import SOURCES
from voxloop.cli.main import COMMANDS, build_parser, main
from voxloop.project.sources import Source
from voxloop.specs import FAMILIES, LARGEST_SIZE, SMALLEST_SIZE, ClassifierSpec, FeatureSpec, SlicSpec

PARSERS = next(a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction)).choices


@pytest.mark.parametrize("command", COMMANDS)
def test_each_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([command, "--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert f"  voxloop {command}" in text.split("example", 1)[1]
    for option in ("--json", "--threads", "--debug"):
        assert option in text
    for action in PARSERS[command]._actions:
        assert action.help, f"{action.dest} has no help"


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_are_commands(command: str) -> None:
    lines = re.findall(r"^  (voxloop .*)$", PARSERS[command].epilog.replace("\\\n", " "), re.MULTILINE)
    assert lines
    for line in lines:
        build_parser().parse_args(shlex.split(line, comments=True)[1:])


@pytest.mark.parametrize("command", COMMANDS)
def test_measures_name_their_units(command: str) -> None:
    """What is measured says in what: voxels, a unit that is given, bytes, standard deviations, or a share."""
    units = ("voxel", "unit", "GB", "deviation", "share", "contrast", "frames", "time point")
    for action in PARSERS[command]._actions:
        if action.type is float or action.dest in ("memory", "crop", "frames"):
            text = f"{action.help} {action.metavar}"
            assert any(unit in text.lower() or unit in text for unit in units), f"{command} {action.dest}: {text}"
            assert "default" in text or action.dest in ("crop", "frames", "sigmas_2d", "rescale", "mask"), text


@pytest.mark.parametrize("command", COMMANDS)
def test_numbers_name_their_defaults(command: str) -> None:
    for action in PARSERS[command]._actions:
        if action.type is int:
            assert re.search(r"\(default: [^)]+\)", action.help), f"{command} {action.dest}: {action.help}"


def test_help_of_all(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert all(re.search(rf"^    {command}\b", text, re.MULTILINE) for command in COMMANDS)
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert exit_.value.code == 0
    assert re.fullmatch(r"voxloop \d+\.\d+\S*\n", capsys.readouterr().out)


def stated_default(command: str, option: str) -> str:
    """Return what the help of an option says its default is."""
    (action,) = (a for a in PARSERS[command]._actions if option in a.option_strings)
    (stated,) = re.findall(r"\(default: ([^)]*)\)", action.help)
    assert action.default is None, "the spec decides"
    return stated


@pytest.mark.parametrize(
    ("command", "spec", "names"),
    [
        ("supervoxels", SlicSpec(), ["compactness", "max_num_iter", "sigma", "coarse_sigma", "min_size_factor"]),
        ("train", ClassifierSpec(), ["n_trees", "min_samples_leaf", "seed"]),
    ],
)
def test_stated_defaults_are_those_of_the_specs(command: str, spec, names: list[str]) -> None:
    for name in names:
        assert float(stated_default(command, f"--{name.replace('_', '-')}")) == getattr(spec, name), name


def test_stated_defaults_of_size_and_features() -> None:
    assert SlicSpec().size is SlicSpec().n_segments is None
    for command in ("supervoxels", "demo"):
        assert stated_default(command, "--size") == f"{SMALLEST_SIZE:g} to {LARGEST_SIZE:g}, by the volume's size"
    assert tuple(map(float, stated_default("features", "--sigmas").split())) == FeatureSpec().sigmas
    assert stated_default("features", "--families") == "all"
    assert tuple(stated_default("features", "--statistics").split()) == FeatureSpec().statistics
    assert FeatureSpec().families == FAMILIES
    helps = {a.dest: a.help for a in PARSERS["features"]._actions}
    assert all(family in helps["families"].split() for family in FAMILIES)
    assert all(statistic in helps["statistics"].split() for statistic in FeatureSpec().statistics)
    assert f"{FeatureSpec().definition} (default)" in helps["definition"]
    assert Source.__args__ == SOURCES


def test_other_stated_defaults_are_the_parsers() -> None:
    for command, parser in PARSERS.items():
        for action in parser._actions:
            stated = re.findall(r"default: (\S+?)\)?$", action.help)
            if stated and action.default is not None:
                assert stated == [str(action.default)], f"{command} {action.dest}"


@pytest.mark.skipif(sys.platform == "win32", reason="resource is POSIX")
def test_help_is_quick() -> None:
    """Processor time, so that a busy machine does not matter."""
    script = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True);"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN); print(used.ru_utime + used.ru_stime)"
    )
    command = [sys.executable, "-c", script, sys.executable, "-m", "voxloop", "--help"]
    seconds = min(float(subprocess.run(command, capture_output=True, check=True).stdout) for _ in range(3))
    assert seconds < 0.5
