"""Files of microscope vendors through bioio: here DeltaVision, whose header is written by hand."""

from __future__ import annotations

import pickle
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from voxloop.errors import FormatError, InputError, MissingFileError
from voxloop.io import count_frames, open_volume

pytest.importorskip("bioio_dv")
FILM = np.random.default_rng(0).integers(0, 2000, (3, 2, 5, 30, 41)).astype("<u2")  # (t, c, z, y, x)


def write_dv(path: Path, array: np.ndarray, spacing: tuple[float, float, float]) -> None:
    """Write (t, c, z, y, x) uint16 as a DeltaVision file: a header, then sections in the order z, t, c."""
    nt, nc, nz, ny, nx = array.shape
    header = bytearray(1024)
    struct.pack_into("<4i", header, 0, nx, ny, nt * nc * nz, 6)  # 6: uint16
    struct.pack_into("<3f", header, 40, *spacing[::-1])  # micrometres
    struct.pack_into("<3i", header, 64, 1, 2, 3)
    struct.pack_into("<ih", header, 92, 0, -16224)  # no extended header; the mark of the format
    struct.pack_into("<2h", header, 180, nt, 0)
    struct.pack_into("<6h", header, 196, nc, 488, 561, 0, 0, 0)
    path.write_bytes(bytes(header) + array.swapaxes(0, 1).tobytes())


@pytest.fixture
def film(tmp_path: Path) -> Path:
    write_dv(tmp_path / "film.dv", FILM, (0.5, 0.25, 0.125))
    return tmp_path / "film.dv"


def test_a_vendors_file(film: Path) -> None:
    assert count_frames(film) == 3
    volume = open_volume(film, frame=1)
    assert (volume.shape, volume.n_channels, volume.dtype) == ((5, 30, 41), 2, np.uint16)
    assert (volume.spacing, volume.unit) == ((0.5, 0.25, 0.125), "micrometer")
    np.testing.assert_array_equal(volume.read(), FILM[1])
    part = volume.data[1:4, ::7, 10:20:3, 1]
    np.testing.assert_array_equal(part, FILM[1, 1, 1:4, ::7, 10:20:3])


def test_it_is_lazy_and_travels_as_its_path(film: Path) -> None:
    volume = open_volume(film, frame=2, channels=[1])
    sent = pickle.dumps(volume)
    assert len(sent) < 1000
    np.testing.assert_array_equal(pickle.loads(sent).read()[0], FILM[2, 1])  # noqa: S301
    with ThreadPoolExecutor(4) as pool:
        planes = list(pool.map(lambda z: volume.data[z], [*range(5)] * 8))
    np.testing.assert_array_equal(planes, np.concatenate([FILM[2, 1]] * 8))


def test_one_of_several_images(film: Path) -> None:
    for name in ("0", "Image:0"):
        assert open_volume(film / name, frame=0).shape == (5, 30, 41)
    with pytest.raises(
        InputError, match=r"film.dv holds no image 'x'; it holds Image:0; choose one, such as .*film.dv/0"
    ):
        open_volume(film / "x")


@pytest.mark.parametrize(
    ("name", "library"), [("a.czi", "bioio-czi"), ("a.ND2", "bioio-nd2"), ("a.oib", "bioio-bioformats")]
)
def test_a_reader_that_is_not_installed_is_named(tmp_path: Path, name: str, library: str) -> None:
    (tmp_path / name).write_bytes(b"ZISRAWFILE")
    with pytest.raises(InputError, match=rf"{name} needs {library}, which is not installed: pip install {library}"):
        open_volume(tmp_path / name)


def test_without_bioio_the_extra_is_named(film: Path) -> None:
    code = (
        "import sys; sys.modules['bioio'] = None\nfrom voxloop.errors import InputError\n"
        "from voxloop.io import open_volume\n"
        "try: open_volume(sys.argv[1])\nexcept InputError as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code, str(film)], capture_output=True, text=True, check=True).stdout
    assert said == 'Microscope file needs bioio, which is not installed: pip install "voxloop[bioio]"\n'


@pytest.mark.parametrize("content", [b"", b"not an image", bytes(1024)])
def test_garbage(tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("a.dv", "a.lif"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FormatError, match=f"{name} cannot be read"):
            open_volume(tmp_path / name)
    with pytest.raises(MissingFileError):
        open_volume(tmp_path / "missing.dv")
    assert capfd.readouterr() == ("", "")


def test_a_truncated_file(film: Path) -> None:
    content = film.read_bytes()
    for length in (1024, 1025, len(content) // 2, len(content) - 1):
        film.write_bytes(content[:length])
        with pytest.raises(FormatError, match=r"film.dv cannot be read as a microscope file"):
            open_volume(film, frame=0).read()
