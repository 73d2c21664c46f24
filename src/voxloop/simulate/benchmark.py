"""Many learning curves on one image: several strategies, several repeats, in a folder where a stopped run goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import numpy as np
from pydantic import Field, ValidationError

from voxloop.blocks import Executor, Progress, map_blocks
from voxloop.errors import InputError, MissingFileError
from voxloop.io.atomic import remove_leftovers, write_atomically
from voxloop.io.columns import Columns, check_table_format, write_columns
from voxloop.project import Project
from voxloop.project.record import Specs
from voxloop.samples import Sample
from voxloop.simulate.answers import dialogue_names
from voxloop.simulate.curve_plot import draw_curves
from voxloop.simulate.curves import CurvePoint, SimulationSpec, Task, run_curve, score_fully_labelled
from voxloop.simulate.demo import split_sample
from voxloop.simulate.summary import CurveSummary, summarise
from voxloop.simulate.tables import ImageTables
from voxloop.specs import ClassifierSpec, Spec, digest_of

LEARN, JUDGE = 0, 1
TableFormat = Literal["csv", "parquet"]
_VERSION = 10  # of what a run computes; a new one makes stored runs stale
_IDENTITY = "simulation.txt"


class Stored(Spec):
    """Something on the disk, with the digest of all that it depends on."""

    made_from: str


class StoredCurve(Stored):
    """One finished curve."""

    points: Annotated[tuple[CurvePoint, ...], Field(min_length=1)]


class StoredMeasures(Stored):
    """The fully labelled result."""

    measures: dict[str, float]


StoredT = TypeVar("StoredT", bound=Stored)


@dataclass(frozen=True)
class SimulationResult:
    """What a simulation found and wrote.

    Attributes
    ----------
    points
        Of all curves, by strategy, repeat and round.
    summaries
        One a strategy, of `measure`.
    measure
        What the summaries are of: IoU of the foreground if there are two classes, else mean IoU.
    full, oracle
        The measures of the fully labelled result, and of the best that the supervoxels of the scored part allow.
    n_reused
        Curves that were there already.
    files
        What was written, by what it is.
    """

    points: list[CurvePoint]
    summaries: list[CurveSummary]
    measure: str
    full: Mapping[str, float]
    oracle: Mapping[str, float]
    n_reused: int
    files: dict[str, Path]


def run_simulation(
    sample: Sample,
    out: Path,
    *,
    strategies: Sequence[str],
    repeats: int = 10,
    spec: SimulationSpec | None = None,
    n_learn: int | None = None,
    specs: Mapping[str, Any] | None = None,
    table_format: TableFormat = "csv",
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> SimulationResult:
    """Simulate learning curves and write them to a folder.

    Supervoxels and features are computed once, in a project inside the folder. A curve is on the disk as soon as it is
    finished, under the digest of all that it depends on: what was stopped goes on where it was, and more strategies or
    repeats can be added later. The files are the same bytes with any executor.

    Parameters
    ----------
    sample
        The image with its truth.
    out
        Folder for the results: a new one, or that of an earlier simulation of the same image, truth and split.
    strategies
        Names that `make_dialogue` knows.
    repeats
        Curves of each strategy.
    spec
        How long and from where.
    n_learn
        Slices along z (along y for a 2D image) that are labelled; the rest is scored. By default half.
    specs
        Choices for `Project.configure`; the others are the defaults.
    table_format
        Of the tables that are written: ``"csv"`` or ``"parquet"`` (``voxloop[tables]``).
    executor
        Runs the blocks of the image, then the curves.
    progress
        Told of blocks and of curves.

    Raises
    ------
    InputError
        If a strategy is unknown or named twice, `repeats` is below 1, the sample cannot be split, `out` holds
        something else, `table_format` is another one, or the library that it needs is missing.
    """
    spec = spec or SimulationSpec()
    _check(strategies, repeats)
    if table_format not in get_args(TableFormat):
        raise InputError(f"table_format is {table_format!r}; expected one of {', '.join(get_args(TableFormat))}")
    check_table_format(Path(f"curves.{table_format}"))
    task, classifier, base = _prepare(sample, out, n_learn=n_learn, specs=specs, executor=executor, progress=progress)
    runs = _Runs(out / "runs", task, spec, classifier, base)
    full = runs.fully_labelled(executor)
    jobs = [(strategy, repeat) for strategy in strategies for repeat in range(repeats)]
    curves = list(map_blocks(runs.curve, jobs, executor=executor, progress=progress, stage="learning curves"))
    points = [point for curve in curves for point in curve]
    summaries = summarise(points, task.main_measure, full=full[task.main_measure])
    result = SimulationResult(points, summaries, task.main_measure, full, task.oracle, runs.n_reused, {})
    _write(result, sample.image.name, out, table_format)
    return result


def prepare_task(sample: Sample, out: Path, *, n_learn: int | None = None, executor: Executor | None = None) -> Task:
    """Return what `run_simulation` learns and scores by default; supervoxels and features stay in the folder `out`.

    Raises
    ------
    InputError
        If the sample cannot be split, or `out` holds something else.
    """
    return _prepare(sample, out, n_learn=n_learn, specs=None, executor=executor, progress=None)[0]


def _prepare(
    sample: Sample,
    out: Path,
    *,
    n_learn: int | None,
    specs: Mapping[str, Any] | None,
    executor: Executor | None,
    progress: Progress | None,
) -> tuple[Task, ClassifierSpec, str]:
    """Return the task, the classifier, and the digest of all that curves on them depend on."""
    parts = split_sample(sample, n_learn)
    identity = _identity(sample, parts)
    _prepare_folder(out, identity)
    with _open_project(sample, parts, out / "project.voxloop", executor=executor, progress=progress) as project:
        chosen = Specs().configured(**(specs or {}))
        project.configure(slic=chosen.slic, features=chosen.features, classifier=chosen.classifier)
        learn, judge = (ImageTables.of_project(project, i, sample.truth[part]) for i, part in enumerate(parts))
        base = digest_of(
            _VERSION, identity, [part.content_digest for part in project.images],
            chosen.slic.digest, chosen.features.digest, chosen.classifier.digest,
        )  # fmt: skip
    return Task(learn, judge, sample.class_names), chosen.classifier, base


class _Runs:
    """The curves in a folder: computed where they are missing or made from something else."""

    def __init__(self, folder: Path, task: Task, spec: SimulationSpec, classifier: ClassifierSpec, base: str) -> None:
        folder.mkdir(exist_ok=True)
        remove_leftovers(folder)
        self._folder, self._task, self._spec, self._classifier, self._base = folder, task, spec, classifier, base
        self._reused: list[str] = []

    @property
    def n_reused(self) -> int:
        """How many curves were there already."""
        return len(self._reused)

    def curve(self, job: tuple[str, int]) -> tuple[CurvePoint, ...]:
        """Return the points of one curve."""
        strategy, repeat = job
        path = self._folder / f"{strategy}-{repeat:03d}.json"
        digest = digest_of(self._base, self._spec.digest, strategy, repeat)
        if stored := _read_stored(path, digest, StoredCurve):
            self._reused.append(path.name)
            return stored.points
        points = tuple(run_curve(self._task, strategy, repeat=repeat, spec=self._spec, classifier=self._classifier))
        _write_stored(path, StoredCurve(made_from=digest, points=points))
        return points

    def fully_labelled(self, executor: Executor | None) -> dict[str, float]:
        """Return the measures of the fully labelled result."""
        path, digest = self._folder / "fully-labelled.json", digest_of(self._base, self._spec.seed)
        if stored := _read_stored(path, digest, StoredMeasures):
            return stored.measures
        seed = self._spec.seed
        measures = score_fully_labelled(self._task, seed=seed, classifier=self._classifier, executor=executor)
        _write_stored(path, StoredMeasures(made_from=digest, measures=measures))
        return measures


def _read_stored(path: Path, digest: str, kind: type[StoredT]) -> StoredT | None:
    """Return what a file holds; None if it is missing, damaged, or made from something else."""
    try:
        stored = kind.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError, InputError):
        return None
    return stored if stored.made_from == digest else None


def _write_stored(path: Path, stored: Stored) -> None:
    write_atomically(path, stored.model_dump_json(indent=1).encode())


def _check(strategies: Sequence[str], repeats: int) -> None:
    if repeats < 1:
        raise InputError(f"repeats must be 1 or more, not {repeats}")
    if not strategies or len(set(strategies)) != len(strategies):
        raise InputError(f"strategies must name at least one and none twice, not {list(strategies)}")
    if unknown := [name for name in strategies if name not in dialogue_names()]:
        raise InputError(f"strategy is {unknown[0]!r}; expected one of {', '.join(dialogue_names())}")


def _identity(sample: Sample, parts: Sequence[Any]) -> str:
    """Return the digest of image, truth and split: what a folder of results is about."""
    truth = hashlib.blake2b(np.ascontiguousarray(sample.truth).data, digest_size=16).hexdigest()
    return digest_of(
        sample.image.fingerprint(), [str(s) for s in sample.image.spacing], truth, sample.class_names, str(parts)
    )


def _prepare_folder(out: Path, identity: str) -> None:
    """Make the folder, or see that it is of the same image, truth and split."""
    note = out / _IDENTITY
    if out.exists() and not (note.is_file() and note.read_text(errors="replace").strip() == identity):
        raise InputError(f"{out} exists and is no simulation of this image, truth and split; choose another folder")
    if not out.parent.is_dir():
        raise MissingFileError(f"{out} cannot be made: the folder {out.parent} does not exist")
    out.mkdir(exist_ok=True)
    write_atomically(note, f"{identity}\n".encode())


def _open_project(
    sample: Sample, parts: Sequence[Any], folder: Path, *, executor: Executor | None, progress: Progress | None
) -> Project:
    if folder.exists():
        project = Project.open(folder, executor=executor, progress=progress)
    else:
        project = Project.create(folder, classes=sample.class_names, executor=executor, progress=progress)
    for part in parts[len(project.images) :]:
        project.add_image(sample.image, mask=sample.mask, crop=part)
    return project


def _write(result: SimulationResult, name: str, out: Path, table_format: TableFormat) -> None:
    files = result.files
    for table, columns in (("curves", _curves(result)), ("bands", _bands(result)), ("summary", _summary(result))):
        files[table] = out / f"{table}.{table_format}"
        write_columns(files[table], columns, overwrite=True)
    files["plot"], files["project"] = out / "curves.png", out / "project.voxloop"
    draw_curves(
        files["plot"],
        result.summaries,
        measure=result.measure,
        full=result.full[result.measure],
        oracle=result.oracle[result.measure],
        title=name,
    )


def _curves(result: SimulationResult) -> Columns:
    measures = list(dict.fromkeys(measure for point in result.points for measure in point.measures))
    fields = ["strategy", "repeat", "round", "inputs", "labelled", "wrong"]
    rows = [[*(getattr(p, f) for f in fields), *(p.measures.get(m) for m in measures)] for p in result.points]
    return _columns([*fields, *measures], rows)


def _bands(result: SimulationResult) -> Columns:
    rows = [
        [s.strategy, result.measure, *(v.item() for v in values)]
        for s in result.summaries
        for values in zip(s.inputs, s.mean, s.low, s.high, strict=True)
    ]
    return _columns(["strategy", "measure", "inputs", "mean", "low", "high"], rows)


def _summary(result: SimulationResult) -> Columns:
    return _columns(SUMMARY_COLUMNS, [summary_row(s, result) for s in result.summaries])


SUMMARY_COLUMNS = (
    "strategy", "repeats", "measure", "inputs", "final_mean", "final_low", "final_high",
    "area_mean", "area_low", "area_high", "inputs_to_95_percent", "repeats_that_reach_95_percent", "fully_labelled",
    "oracle",
)  # fmt: skip


def summary_row(summary: CurveSummary, result: SimulationResult) -> list[Any]:
    """Return what `SUMMARY_COLUMNS` name of one strategy."""
    final, area = summary.final, summary.area
    return [
        summary.strategy, summary.n_repeats, result.measure, int(summary.inputs[-1]),
        final.mean, final.low, final.high, area.mean, area.low, area.high,
        None if summary.good_enough is None else int(summary.good_enough), summary.n_good_enough,
        result.full[result.measure], result.oracle[result.measure],
    ]  # fmt: skip


def _columns(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> Columns:
    """Return rows as columns; numbers with six digits, the same wherever the sums were rounded alike."""
    columns: Columns = {}
    for name, values in zip(names, zip(*rows, strict=True), strict=True):
        rounded = [float(f"{value:.6g}") if isinstance(value, float) else value for value in values]
        columns[name] = np.array(rounded, dtype=object if None in rounded else None)
    return columns
