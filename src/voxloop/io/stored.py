"""What a reader finds in a file: an array that stays on disk, and what the file says about it."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxloop.errors import FormatError, InputError, MissingFileError, VoxloopError
from voxloop.volume import Affine

_CODECS = "imagecodecs"  # the one library that is imported only when a file turns out to need it


@contextmanager
def reading(path: Path, format_name: str) -> Iterator[None]:
    """Turn whatever a library raises on a missing, locked or damaged file into one line that names the file."""
    try:
        yield
    except (VoxloopError, MemoryError):
        raise
    except OSError as error:
        # Without a number it is not the system's: libraries call damaged content an OSError, too.
        if error.errno is not None:
            raise MissingFileError(f"{path} cannot be read: {error.strerror}") from error
        raise _damaged(path, format_name, error) from error
    except ImportError as error:
        raise missing_library(str(path), _CODECS) from error
    # Damaged content makes the libraries raise nearly anything: KeyError, struct.error, ZeroDivisionError, ...
    except Exception as error:
        raise _damaged(path, format_name, error) from error


def missing_library(what: str, library: str, *, extra: str = "formats") -> InputError:
    """Return the error that says how to install an optional library."""
    return InputError(f'{what} needs {library}, which is not installed: pip install "voxloop[{extra}]"')


def _damaged(path: Path, format_name: str, error: Exception) -> InputError:
    reason = " ".join(str(error).split()) or type(error).__name__
    if f"requires the {_CODECS!r} package" in reason:  # which tifffile raises as a ValueError
        return missing_library(str(path), _CODECS)
    return FormatError(f"{path} cannot be read as {format_name}: {reason}")


@dataclass(frozen=True)
class StoredArray(ABC):
    """An array in a file. It pickles as its path and opens the file again where it is unpickled.

    Subclasses are frozen dataclasses whose fields say where the array is; `_open` is called once.
    """

    path: Path
    _opened: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path).absolute())
        with reading(self.path, self.format_name):
            object.__setattr__(self, "_opened", self._open())

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(getattr(self, f.name) for f in dataclasses.fields(self) if f.init)

    @property
    @abstractmethod
    def format_name(self) -> str:
        """What the format is called in messages."""

    @abstractmethod
    def _open(self) -> Any:
        """Return an array-like that reads the part it is asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Size along each axis of the file."""
        return tuple(int(n) for n in self._opened.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an element, in the byte order of this machine."""
        dtype: np.dtype[Any] = np.dtype(self._opened.dtype).newbyteorder("=")
        return dtype

    @property
    def stored_size(self) -> int:
        """Bytes on disk."""
        return self.path.stat().st_size

    def __getitem__(self, key: Any) -> NDArray[Any]:
        with reading(self.path, self.format_name):
            return np.asarray(self._opened[key]).astype(self.dtype, copy=False)


class ForwardReader:
    """An array of a library that reads plain boxes only: steps, of any sign, are taken from what was read."""

    def __init__(self, shape: Sequence[int], dtype: Any, read: Callable[[tuple[slice, ...]], Any]) -> None:
        self.shape = tuple(int(n) for n in shape)
        self.dtype = np.dtype(dtype)
        self._read = read

    def __getitem__(self, key: tuple[slice, ...]) -> NDArray[Any]:
        ranges = [range(*k.indices(n)) for k, n in zip(key, self.shape, strict=True)]
        bounds = tuple(slice(min(r), max(r) + 1) if r else slice(0, 0) for r in ranges)
        part = np.asarray(self._read(bounds))
        return part[tuple(slice(None, None, r.step) for r in ranges)]


@dataclass(frozen=True)
class StoredImage:
    """An array in a file and what the file says about it.

    Attributes
    ----------
    array
        The array, with the axes of the file.
    axes
        A lower-case letter per axis, or None if the file does not tell.
    sizes
        Size of a voxel and its unit along z, y, x, as far as the file tells.
    channel_names
        Names of the channels, or empty.
    affine
        As that of a `Volume`, in the unit of the sizes; None if the file does not tell.
    origin
        Centre of the first voxel along z, y, x, in the unit of the sizes, as far as the file tells.
    """

    array: StoredArray
    axes: str | None = None
    sizes: Mapping[str, tuple[float, str]] = field(default_factory=dict)
    channel_names: tuple[str, ...] = ()
    affine: Affine | None = None
    origin: Mapping[str, float] = field(default_factory=dict)
