"""An open project in a viewer: opening, closing, computing and exporting in the background."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psygnal import Signal

from voxloop.app import napari_adapter as adapter
from voxloop.app.layers import LoadedImage, ProjectLayers
from voxloop.errors import ProjectError, StorageError, VoxloopError
from voxloop.io import count_frames, open_volume
from voxloop.project import BatchItem, Project, batch, is_project
from voxloop.project.computed import Stage, State
from voxloop.project.jobs import Jobs, JobState
from voxloop.project.live import LiveImage
from voxloop.project.sources import Source
from voxloop.supervoxels import Supervoxels
from voxloop.volume import Volume

FIRST_CLASSES = ("background", "foreground")

NO_PROJECT = "open an image first: the step Data does"

# A block of work ends sooner; closing the window waits no longer for it.
CLOSING_SECONDS = 3.0

Dispatch = Callable[[Callable[[], None]], None]


@dataclass(frozen=True, eq=False)
class Pending:
    """An image file that was opened, while somebody looks whether its voxel size is right, and crops or masks it.

    Attributes
    ----------
    path, volume
        The file, and the first time point in it.
    axes
        What somebody said the axes of the file are; None as the file says.
    n_frames
        How many time points there are.
    """

    path: Path
    volume: Volume
    axes: str | None = None
    n_frames: int = 1


@dataclass(frozen=True)
class Moved:
    """A project that cannot be opened before it is known where its images are now: their old places."""

    folder: Path
    files: tuple[str, ...]


class Session:
    """A project, its layers and the one job that may run on it.

    Nothing here waits or raises for what a user does: work is done in the background, and what cannot be done is said
    through `notified`.

    Parameters
    ----------
    viewer
        A napari viewer, with or without a window.
    dispatch
        Runs a call in the thread that owns the viewer; workers report through it.
    """

    # "project", "files", "stages", "labels", "live", "shown", "guide", "plane", "views", "crosshair", "review";
    # "strokes" and "help" ask for these pages.
    changed = Signal(str)
    job_changed = Signal(JobState)
    notified = Signal(str, str)  # "info", "warning" or "error", and one line

    def __init__(self, viewer: Any, *, dispatch: Dispatch) -> None:
        self.viewer = viewer
        self.project: Project | None = None
        self.layers: ProjectLayers | None = None
        self.tables: tuple[LiveImage, ...] = ()
        self.pending: Pending | None = None
        self.moved: Moved | None = None
        self.dispatch = dispatch
        self._jobs = Jobs(lambda state: dispatch(lambda: self._on_job(state)))

    # Opening and closing

    @property
    def image(self) -> int:
        """The image on screen."""
        return self.layers.image.index if self.layers else 0

    def open_path(self, path: str | os.PathLike[str]) -> None:
        """Open a project, or the one beside an image file; if there is none, make it with two classes."""
        path = Path(path)
        folder = path if is_project(path) else path.with_name(f"{path.name.split('.')[0]}.voxloop")
        self._open(folder, None if is_project(folder) else path)

    def propose(self, path: str | os.PathLike[str], *, axes: str | None = None) -> None:
        """Open a project, or look into an image file before it becomes a project or a further image of the open one.

        Parameters
        ----------
        path
            The file or folder.
        axes
            What the axes of the file are, where it is silent or wrong, such as ``"tzyx"``.
        """
        path = Path(path)
        beside = path.with_name(f"{path.name.split('.')[0]}.voxloop")
        if is_project(path) or (self.project is None and is_project(beside)):
            self.open_path(path)
            return

        def work() -> Pending:
            n_frames = count_frames(path, axes=axes)
            return Pending(path, open_volume(path, axes=axes, frame=0 if n_frames > 1 else None), axes, n_frames)

        def opened(pending: Pending) -> None:
            self.pending = pending
            self.changed.emit("files")

        self.run(f"Opening {path.name}", work, opened)

    def accept(self, **options: Any) -> None:
        """Make a project of the image that was looked into, or add it to the open one; options as for `add_image`."""
        pending = self.pending
        if pending is None:
            return
        self.pending = None
        options["axes"] = pending.axes
        if self.project is not None:
            self.add_image(pending.path, **options)
        else:
            folder = pending.path.with_name(f"{pending.path.name.split('.')[0]}.voxloop")
            self.create(folder, pending.path, **options)
        self.changed.emit("files")

    def dismiss(self) -> None:
        """Leave the image that was looked into, or the project whose images are missing, where it is."""
        self.pending = self.moved = None
        self.changed.emit("files")

    def relink(self, new: str | os.PathLike[str]) -> None:
        """Say where the first missing image is now, and open the project; others are looked for beside it."""
        moved, new = self.moved, Path(new)
        if moved is None:
            return
        old = Path(moved.files[0])

        def work() -> None:
            with Project.open(moved.folder) as project:
                # A file of the same name: its folder was moved, and with it all that lies there.
                is_folder = new.is_file() and new.name == old.name
                project.relink(old.parent if is_folder else old, new.parent if is_folder else new)

        def done(_: None) -> None:
            self.moved = None
            self.changed.emit("files")
            self.open_path(moved.folder)

        self.run("Looking for the images", work, done)

    def create(self, folder: str | os.PathLike[str], image: str | os.PathLike[str] | Volume, **options: Any) -> None:
        """Make a project for an image file, or for a volume in memory, which is stored in the project."""
        self._open(Path(folder), image, **options)

    def show_image(self, index: int) -> None:
        """Show another image of the project."""
        project = self.need_project()

        def shown(image: LoadedImage) -> None:
            self._show(image)
            self.changed.emit("project")

        self.run(f"Opening {project.images[index].name}", lambda: LoadedImage.of(project, index), shown)

    def add_image(self, path: str | os.PathLike[str], **options: Any) -> None:
        """Add an image to the project and show it; the strokes on all images train one classifier."""
        project = self.need_project()

        def shown(image: LoadedImage) -> None:
            self.tables = ()
            self._show(image)
            self.changed.emit("project")

        self.run(
            f"Adding {Path(path).name}", lambda: LoadedImage.of(project, project.add_image(path, **options)), shown
        )

    def close_project(self) -> None:
        """Let go of the project; all of it is on the disk already."""
        if self.layers is not None:
            self.layers.remove()
        if self.project is not None:
            self.project.close()
        self.project, self.layers, self.tables = None, None, ()
        self.changed.emit("project")

    def close(self) -> None:
        """Stop everything: the window closes. The layers go with it."""
        self._jobs.cancel()
        self._jobs.wait(CLOSING_SECONDS)
        if self.project is not None:
            self.project.close()
            self.project = None

    # Computing

    @property
    def is_busy(self) -> bool:
        """Whether a job runs."""
        return self._jobs.is_running

    def state_of(self, stage: Stage) -> State:
        """Return the worst state that a stage has in any image."""
        if self.project is None:
            return "missing"
        states = {self.project.state_of(stage, index) for index in range(len(self.project.images))}
        return "missing" if "missing" in states else "stale" if "stale" in states else "ready"

    def configure(self, **choices: Any) -> None:
        """Choose specs; what they make stale says so, and is computed when it is asked for."""
        try:
            self.need_project().configure(**choices)
        except VoxloopError as error:
            self.notified.emit("error", str(error))
        self.changed.emit("stages")

    def compute(self, upto: Stage = "features") -> None:
        """Compute what is missing or stale, up to a stage."""
        if self.project is None:
            self.notified.emit("info", NO_PROJECT)
            return
        project = self.project
        images = range(len(project.images))
        if upto == "supervoxels":
            self.run(
                "Supervoxels",
                lambda: [project.supervoxels(index) for index in images],
                lambda found: self._show_supervoxels(found[self.image]),
            )
        else:
            self.run(
                "Supervoxels and features",
                lambda: tuple(LiveImage.of(project, index) for index in images),
                self._computed,
            )

    def cancel(self) -> None:
        """Stop the job after the block that is under way; what it finished before stays."""
        self._jobs.cancel()

    def export(self, source: Source, path: str | os.PathLike[str], *, overwrite: bool = False, **options: Any) -> None:
        """Write a result of the image on screen to a file; options as for `Project.export`."""
        image = self.image

        def work() -> list[Path]:
            with self.snapshot() as snapshot:
                return snapshot.export(source, path, image=image, overwrite=overwrite, **options)

        def done(files: list[Path]) -> None:
            more = f" and {len(files) - 1} more files" if len(files) > 1 else ""
            self.notified.emit("info", f"{source} written to {files[0]}{more}")

        self.run(f"Export {source}", work, done)

    def batch(self, source: Source, images: Sequence[str], out: str, **options: Any) -> None:
        """Segment more files with the classifier of this moment; one that fails does not stop the others."""

        def work() -> list[BatchItem]:
            with self.snapshot() as snapshot:
                return batch(
                    snapshot.model(),
                    images,
                    out,
                    sources=(source,),
                    progress=self._jobs.progress,
                    **options,
                )

        def done(items: list[BatchItem]) -> None:
            failed = [item for item in items if item.state == "failed"]
            for item in failed:
                self.notified.emit("error", f"{item.image}: {item.reason}")
            for item in items:
                if item.note:
                    self.notified.emit("warning", f"{item.image}: {item.note}")
            self.notified.emit("info", f"{len(items) - len(failed)} of {len(items)} images are done")

        self.run("Batch", work, done)

    def run(self, name: str, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Run `work` in the background, then `then` with what it returned in the thread that owns the viewer."""
        try:
            self._jobs.start(name, work, lambda result: self.dispatch(lambda: then(result)))
        except ProjectError as error:
            self.notified.emit("warning", str(error))

    def need_project(self) -> Project:
        """Return the open project, or raise `ProjectError`."""
        if self.project is None:
            raise ProjectError("no project is open")
        return self.project

    def snapshot(self) -> Project:
        """Return the project as it is now, opened to look at only: it keeps the labels of this moment.

        Features do not depend on labels; what is missing of them is computed in the project itself first.
        """
        project = self.need_project()
        if n := project.n_unsaved:
            raise StorageError(f"{n} edits are not saved yet and would be missing: make room on the disk first")
        for index in range(len(project.images)):
            project.features(index)
        return Project.open(project.folder, read_only=True, progress=self._jobs.progress)

    # Behind the scenes

    def _open(self, folder: Path, image: str | os.PathLike[str] | Volume | None, **options: Any) -> None:
        def work() -> tuple[Project, LoadedImage] | Moved:
            progress = self._jobs.progress
            if image is None:
                project = Project.open(folder, progress=progress)
            else:
                classes = options.pop("classes", FIRST_CLASSES)
                project = Project.create(folder, image, classes=classes, progress=progress, **options)
            try:
                if missing := project.missing_files():
                    project.close()
                    return Moved(folder, tuple(missing))
                if not project.images:
                    raise ProjectError(f"{folder.name} has no images: make a new project from an image")
                return project, LoadedImage.of(project, 0)
            except BaseException:
                project.close()
                raise

        if self.project is not None and (n := self.project.n_unsaved):
            self.notified.emit("error", f"{n} edits are not saved yet: make room on the disk first")
            return
        if not self.is_busy:
            self.close_project()

        def done(found: tuple[Project, LoadedImage] | Moved) -> None:
            if isinstance(found, Moved):
                self.moved = found
                self.notified.emit("warning", f"{found.files[0]} is missing: say under Data where it is now")
                self.changed.emit("files")
            else:
                self._opened(*found)

        self.run(f"Opening {folder.name}", work, done)

    def _opened(self, project: Project, image: LoadedImage) -> None:
        self.project, self.pending, self.moved = project, None, None
        self._show(image)
        adapter.show_scale_bar(self.viewer)
        if project.recovered:
            self.notified.emit(
                "warning", f"Recovered after a crash: {project.recovered}. All finished strokes are here."
            )
        self.changed.emit("project")
        if self.state_of("features") == "ready":
            self.compute()  # only reads what is there

    def _show(self, image: LoadedImage) -> None:
        if self.layers is not None:
            self.layers.remove()
        self.layers = ProjectLayers(self.viewer, image)
        if self.tables:
            self._show_supervoxels(self.tables[image.index].supervoxels)

    def _computed(self, tables: tuple[LiveImage, ...]) -> None:
        self.tables = tables
        self._show_supervoxels(tables[self.image].supervoxels)

    def _show_supervoxels(self, supervoxels: Supervoxels) -> None:
        if self.layers is not None:
            self.layers.show_supervoxels(supervoxels.labels, supervoxels.n)
        if message := supervoxels.report.message:
            self.notified.emit("warning", message)
        self.changed.emit("stages")

    def _on_job(self, state: JobState) -> None:
        self.job_changed.emit(state)
        if state.status == "failed":
            self.notified.emit("error", state.message)
        if state.is_over or state == JobState(state.name):  # at the end, and at the start
            self.changed.emit("stages")
