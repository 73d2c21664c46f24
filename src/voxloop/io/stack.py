"""Images of one slice (PNG, JPEG, BMP), and stacks of them or of TIFFs: a folder, wildcards, or ``{slice_index}``.

Images with a palette are read as its indices: these are the labels of a label image, and the intensities where a
look-up table only colours the screen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import tifffile
from numpy.typing import NDArray
from PIL import BmpImagePlugin, Image, JpegImagePlugin, PngImagePlugin

from voxloop.errors import FormatError, InputError
from voxloop.io.inside import is_numbered, is_pattern, matching_files, natural_order, slice_names
from voxloop.io.ome_tiff import resolution_tags
from voxloop.io.slices import SliceStack
from voxloop.io.stored import StoredArray, StoredImage, reading
from voxloop.io.tiff import read as read_tiff
from voxloop.io.writers import EncodedWriter, Header
from voxloop.volume import AxesView

# The classes rather than Image.open: it tries every format that it knows, and refuses slices above 180 megapixels.
_OPENERS: dict[str, Callable[..., Image.Image]] = {
    ".png": PngImagePlugin.PngImageFile,
    ".jpg": JpegImagePlugin.JpegImageFile,
    ".jpeg": JpegImagePlugin.JpegImageFile,
    ".bmp": BmpImagePlugin.BmpImageFile,
}
_TIFF = (".tif", ".tiff")
_DTYPES = {"1": np.bool_, "I": np.int32, "F": np.float32}
_SHARE_OF_FREE_MEMORY = 1 / 2

Sizes = Mapping[str, tuple[float, str]]


def is_slice(path: Path) -> bool:
    """Return whether a file may be a slice of a stack, by its suffix."""
    return path.suffix.lower() in (*_OPENERS, *_TIFF)


def read(path: Path) -> StoredImage:
    """Return the image in `path`, or the stack of images that it stands for."""
    with reading(path, "an image"):
        files = _slices(path)
        first, sizes = _description(files[0])
        for file in files[1:]:
            _check_same(file, _description(file)[0], files[0], first)
    return StoredImage(ImageStack(path), "zyxc" if len(first.shape) == 3 else "zyx", sizes)


@dataclass(frozen=True)
class _Slice:
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class ImageStack(StoredArray):
    """The image in a file, or the stack of images in a folder or matching a pattern."""

    @property
    def format_name(self) -> str:
        """What the format is called in messages."""
        return "an image"

    def _open(self) -> Any:
        files = _slices(self.path)
        first = _description(files[0])[0]

        def decode(z: int) -> NDArray[Any]:
            image = _decode(files[z])
            _check_same(files[z], _Slice(image.shape, image.dtype), files[0], first)
            return image

        return SliceStack(len(files), first.shape, first.dtype, decode)

    @property
    def stored_size(self) -> int:
        """Bytes of all slices on disk."""
        return sum(file.stat().st_size for file in _slices(self.path))


def _slices(path: Path) -> list[Path]:
    """Return the files of a stack in natural order: all of one suffix, hidden ones aside."""
    if is_pattern(path):
        files = matching_files(path)
    elif path.is_dir():
        visible = [p for p in path.iterdir() if p.is_file() and not p.name.startswith(".")]
        files = sorted((p for p in visible if is_slice(p)), key=natural_order)
    else:
        files = [path]
    if not files:
        raise FormatError(f"{path} matches no file")
    if strange := [file for file in files if not is_slice(file)]:
        raise FormatError(f"{strange[0]} is not a PNG, JPEG, BMP or TIFF image, of which a stack is made")
    suffixes = sorted({file.suffix.lower() for file in files})
    if len(suffixes) > 1:
        raise InputError(f"{path} holds {' and '.join(suffixes)} images; choose some, such as with *{suffixes[0]}")
    return files


def _check_same(file: Path, found: _Slice, first: Path, expected: _Slice) -> None:
    if found != expected:
        raise InputError(
            f"{file} is {_words(found)} but {first.name} is {_words(expected)}; the slices of a stack must be alike"
        )


def _words(image: _Slice) -> str:
    return f"{' x '.join(map(str, image.shape))} {image.dtype}"


def _description(file: Path) -> tuple[_Slice, Sizes]:
    """Return what the header of a slice says."""
    with reading(file, file.suffix[1:].upper()):
        if file.suffix.lower() in _TIFF:
            view, sizes = _tiff_slice(file)
            return _Slice(view.shape[1:], view.dtype.newbyteorder("=")), sizes
        deep_channels = _deep_png_channels(file)
        with _opened(file) as image:
            channels = deep_channels or len(image.getbands())
            dtype = np.dtype(np.uint16 if deep_channels or "I;16" in image.mode else _DTYPES.get(image.mode, np.uint8))
            shape = (image.height, image.width)
        return _Slice((*shape, channels) if channels > 1 else shape, dtype), {}


@contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    """Open an image whose voxels fit into half of the memory that is free: a few bytes may announce any number."""
    with file.open("rb") as stream, _OPENERS[file.suffix.lower()](stream, str(file)) as image:
        nbytes = image.width * image.height * 8
        if nbytes > psutil.virtual_memory().available * _SHARE_OF_FREE_MEMORY:
            raise InputError(f"{file} announces {image.height} x {image.width} pixels, more than memory can hold")
        yield image


def _decode(file: Path) -> NDArray[Any]:
    """Return the voxels (y, x) or (y, x, c) of a slice."""
    with reading(file, file.suffix[1:].upper()):
        if file.suffix.lower() in _TIFF:
            return _tiff_slice(file)[0][0]
        with _opened(file) as image:
            if not _deep_png_channels(file):
                return np.asarray(image).astype(np.asarray(image).dtype.newbyteorder("="), copy=False)
        import imagecodecs  # here, for it takes long to import and these files are rare

        decoded: NDArray[Any] = imagecodecs.png_decode(file.read_bytes())
        return decoded


def _deep_png_channels(file: Path) -> int | None:
    """Return the number of channels of a PNG with several of 16 bits, which Pillow would cut to 8; else None."""
    if file.suffix.lower() != ".png":
        return None
    with file.open("rb") as stream:
        header = stream.read(26)  # bit depth and colour type: ISO/IEC 15948, 11.2.2
    return {2: 3, 4: 2, 6: 4}.get(header[25]) if len(header) == 26 and header[24] == 16 else None


def _tiff_slice(file: Path) -> tuple[AxesView, Sizes]:
    """Return a TIFF of one slice as (1, y, x) or (1, y, x, c), and its voxel size."""
    stored = read_tiff(file)
    axes = stored.axes or ""
    view = AxesView(stored.array, axes)
    if "t" in axes or view.shape[0] != 1:
        raise InputError(f"{file} has shape {stored.array.shape}; a stack is made of single slices")
    return view, stored.sizes


def create(path: Path, header: Header) -> SlicesWriter:
    """Return a writer of a single image, or of one image per slice where the path holds ``{slice_index}``.

    PNG holds ``uint8`` and ``uint16`` of one to four channels, BMP ``uint8`` of one or three, TIFF everything.
    """
    return SlicesWriter(path, header)


class SlicesWriter(EncodedWriter):
    """Writes a stack into the folder `path` when all slices are there; a single image into the file `path`."""

    def __init__(self, path: Path, header: Header) -> None:
        self._is_stack = is_numbered(header.path)
        n_slices = header.spatial_shape[0]
        suffix = header.path.suffix.lower()
        if not self._is_stack and n_slices > 1:
            raise InputError(
                f"{header.path.name} holds one slice, not {n_slices}; name a file per slice, such as "
                f"{header.path.stem}_{{slice_index}}{suffix}"
            )
        channels, dtypes = {".png": ((1, 2, 3, 4), "uint8 uint16"), ".bmp": ((1, 3), "uint8")}.get(suffix, (None, ""))
        if channels and (header.n_channels not in channels or header.dtype.name not in dtypes.split()):
            raise InputError(
                f"a {suffix[1:].upper()} cannot hold {header.dtype} of {header.n_channels} channel(s); "
                f"expected {dtypes.replace(' ', ' or ')} of {' or '.join(map(str, channels))}"
            )
        if self._is_stack:
            path.mkdir()
            self._files = [path / name for name in slice_names(header.path, n_slices)]
        else:
            self._files = [path]
        super().__init__(path, header)

    def _encode(self, voxels: NDArray[Any]) -> None:
        for file, image in zip(self._files, voxels, strict=True):
            _save(file, image[..., 0] if image.shape[2:] == (1,) else image, self.header)


def _save(file: Path, image: NDArray[Any], header: Header) -> None:
    suffix = header.path.suffix.lower()
    if suffix in _TIFF:
        options = resolution_tags(header)
        photometric = "rgb" if header.n_channels in (3, 4) and header.dtype == np.uint8 else "minisblack"
        planar = "contig" if image.ndim == 3 else None
        tifffile.imwrite(file, image, photometric=photometric, planarconfig=planar, metadata=None, **options)
    elif image.ndim == 3 and header.dtype == np.uint16:
        import imagecodecs

        file.write_bytes(imagecodecs.png_encode(image))
    else:
        Image.fromarray(image).save(file, format=suffix[1:].upper())
