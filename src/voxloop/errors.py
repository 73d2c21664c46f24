"""One tree of errors. Each is also the builtin that a caller would expect.

A message is one line that names the argument, what was expected and what was found.
"""

from __future__ import annotations


class VoxloopError(Exception):
    """Base of every error that voxloop raises on purpose."""


class InputError(VoxloopError, ValueError):
    """An argument or its content cannot be used."""


class FormatError(InputError):
    """A file is not what its name or header says, or its format is unknown."""


class MissingFileError(VoxloopError, FileNotFoundError):
    """A file or folder does not exist or cannot be read."""

    # OSError would print "[Errno ...]" around our own sentence.
    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class StorageError(VoxloopError, OSError):
    """Something could not be written: a full disk, missing rights."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class ProjectError(VoxloopError, RuntimeError):
    """A project cannot be opened or is not in the state that a call needs."""


class ProjectInUseError(ProjectError):
    """Another process holds the project's lock."""


class ProjectVersionError(ProjectError):
    """The project was written by a newer voxloop."""


class ClusterError(VoxloopError, RuntimeError):
    """A cluster cannot be reached, does not see the same files, or lost its workers."""


class Cancelled(VoxloopError):  # noqa: N818 - not an error: somebody asked for it
    """The work was cancelled; what was finished before stays."""
