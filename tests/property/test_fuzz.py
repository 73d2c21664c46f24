"""Ten thousand damaged files, projects and paths: a result or an error of ours, in time, and no file elsewhere.

The cases are the same in every run: what HDF5, zlib and the rest do with damage is theirs, and a run that fails one day
in a hundred tells nobody what changed.
"""

from __future__ import annotations

import contextlib
import faulthandler
import itertools
import json
import os
import random
import shutil
import signal
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import SimpleITK
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from voxloop.blocks import Box
from voxloop.errors import VoxloopError
from voxloop.io import count_frames, ilp, open_volume, save_volume
from voxloop.project import Project, import_ilastik

IMAGE = np.random.default_rng(0).integers(0, 255, (5, 20, 30), np.uint8)
CASES = {"images": 7700, "more images": 100, "ilastik": 300, "projects": 1200, "paths": 900}
SECONDS = 10  # of processor time for a case that should take milliseconds
count = itertools.count()
seeds = st.integers(0, 2**32)


pytestmark = pytest.mark.timeout(900)  # a minute of processor time on a busy machine


def fuzz(kind: str) -> Callable:
    return settings(
        max_examples=CASES[kind],
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def test_there_are_ten_thousand() -> None:
    assert sum(CASES.values()) >= 10_000


def damaged(rng: random.Random, content: bytes) -> bytes:
    """Change, cut, add or swap a few bytes, more often in what may be a header."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        if not changed:
            return rng.randbytes(3)
        place = rng.randrange(min(len(changed), 700)) if rng.random() < 0.6 else rng.randrange(len(changed))
        match rng.choices(("byte", "word", "digit", "cut", "remove", "add", "copy"), (6, 4, 2, 1, 2, 2, 1))[0]:
            case "byte":
                changed[place] = rng.randrange(256)
            case "word":
                word = rng.choice((b"\xff" * 4, b"\0" * 4, b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\xff" * 8))
                changed[place : place + len(word)] = word
            case "digit":
                digits = [i for i in range(place, min(place + 60, len(changed))) if chr(changed[i]).isdigit()]
                if digits:
                    changed[digits[0]] = rng.choice(b"0123456789-.")
            case "cut":
                del changed[place:]
            case "remove":
                del changed[place : place + rng.randint(1, 16)]
            case "add":
                changed[place:place] = rng.randbytes(rng.randint(1, 16))
            case "copy":
                other = rng.randrange(len(changed))
                changed[place : place + 16] = changed[other : other + 16]
    return bytes(changed)


@contextlib.contextmanager
def own_errors_in_time() -> Iterator[None]:
    """Let errors of voxloop's own pass, of one line each, within `SECONDS`."""
    start = time.process_time()
    try:
        yield
    except VoxloopError as error:
        assert "\n" not in str(error)  # noqa: PT017 - most damage hits voxels and is none
    assert time.process_time() - start < SECONDS


def read(path: Path) -> None:
    volume = open_volume(path)
    count_frames(path)
    if volume.n_voxels * volume.n_channels < 10**7:
        assert volume.read().shape == (volume.n_channels, *volume.shape)
    else:
        volume.read(Box((0, 0, 0), (1, 1, 1)))
        volume.read(Box(tuple(n - 1 for n in volume.shape), volume.shape))


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("originals")
    for suffix in ("tif", "npy", "zarr", "h5", "n5", "nii", "nii.gz", "mrc", "nrrd"):
        save_volume(folder / f"a.{suffix}", IMAGE, spacing=(3, 1, 1), unit="nm")
    tifffile.imwrite(folder / "zlib.tif", IMAGE, compression="zlib", tile=(16, 16), metadata={"axes": "TYX"})
    tifffile.imwrite(folder / "lzw.tif", IMAGE, compression="lzw", predictor=True, metadata={"axes": "ZYX"})
    tifffile.imwrite(folder / "imagej.tif", IMAGE, imagej=True, metadata={"axes": "ZYX"})
    tifffile.imwrite(folder / "big.tif", IMAGE, bigtiff=True)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(IMAGE), str(folder / "gzip.nrrd"), True)
    for compress in (True, False):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(IMAGE), str(folder / f"{compress}.mha"), compress)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(IMAGE[0]), str(folder / "a.dcm"))
    for suffix in ("png", "jpg", "bmp"):
        Image.fromarray(IMAGE[0]).save(folder / f"a.{suffix}")
    np.savez_compressed(folder / "a.npz", a=IMAGE)
    with h5py.File(folder / "chunks.h5", "w") as file:
        file.create_dataset("v/a", data=IMAGE, chunks=(2, 10, 10), compression="gzip")
        file["v/a"].attrs["axistags"] = json.dumps({"axes": [{"key": axis} for axis in "zyx"]})
    return sorted(folder.iterdir())


@pytest.mark.slow
@fuzz("images")
@given(seed=seeds, kind=st.integers(0, 21))
def test_images(tmp_path: Path, originals: list[Path], seed: int, kind: int) -> None:
    rng, original = random.Random(seed), originals[kind]
    path = tmp_path / str(next(count)) / original.name
    path.parent.mkdir()
    if original.is_dir():
        shutil.copytree(original, path)
        file = rng.choice(sorted(p for p in path.rglob("*") if p.is_file()))
        file.write_bytes(damaged(rng, file.read_bytes()))
    else:
        path.write_bytes(damaged(rng, original.read_bytes()))
    with own_errors_in_time():
        read(path)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    shutil.rmtree(path.parent)


@pytest.mark.slow
@fuzz("more images")
@given(seed=seeds, name=st.sampled_from(["a.dv", "pyramid.ome.tif"]))
def test_more_images(tmp_path: Path, seed: int, name: str) -> None:
    """A vendor's file, which a library of others reads, and the coarser levels of a TIFF."""
    rng, original = random.Random(seed), tmp_path / name
    if not original.exists():
        image = np.random.default_rng(0).integers(0, 255, (2, 300, 280), np.uint8)
        if name == "a.dv":
            header = bytearray(1024)
            struct.pack_into("<4i", header, 0, 280, 300, 2, 6)
            struct.pack_into("<3f", header, 40, 1, 1, 3)
            struct.pack_into("<ih", header, 92, 0, -16224)
            struct.pack_into("<2h12xh", header, 180, 1, 0, 1)
            original.write_bytes(bytes(header) + image.astype("<u2").tobytes())
        else:
            save_volume(original, image, ome_tiff="pyramid")
    path = tmp_path / str(next(count)) / name
    path.parent.mkdir()
    path.write_bytes(damaged(rng, original.read_bytes()))
    with own_errors_in_time():
        read(path)
    assert [p.name for p in path.parent.iterdir()] == [name]
    shutil.rmtree(path.parent)


def survives_reading(path: Path) -> bool:
    """What `voxloop.io.ilp.survives_reading` does, in a fork: starting Python 300 times takes minutes."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        faulthandler.disable()
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(SECONDS)
        with contextlib.suppress(Exception):
            ilp.read_all(path)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@fuzz("ilastik")
@given(seed=seeds)
def test_ilastik_projects(tmp_path: Path, write_ilp, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(ilp, "survives_reading", survives_reading)
    folder, rng = tmp_path / str(next(count)), random.Random(seed)
    folder.mkdir()
    np.save(folder / "a.npy", IMAGE)
    block = ("[1:3,4:6,5:9,0:1]", np.ones((2, 2, 4, 1)))
    lanes = [{"path": name, "shape": IMAGE.shape, "blocks": [block]} for name in ("a.npy", "gone.npy")]
    original = tmp_path / "original.ilp"
    if not original.exists():
        write_ilp(original, lanes)
    content = bytearray(original.read_bytes())
    for _ in range(rng.randint(1, 5)):
        place = rng.randrange(len(content))
        patch = rng.choice((rng.randbytes(1), rng.randbytes(8), b"\xff" * 8, b"\0" * 8, content[place // 2 :][:16]))
        content[place : place + len(patch)] = patch
    (folder / "p.ilp").write_bytes(content[: rng.randrange(len(content))] if rng.random() < 0.1 else content)
    made = False
    with own_errors_in_time():
        import_ilastik(folder / "p.ilp", folder / "p.voxloop")
        made = True
    assert sorted(p.name for p in folder.iterdir()) == ["a.npy", "p.ilp", *(["p.voxloop"] if made else [])]
    shutil.rmtree(folder)


@pytest.mark.slow
@fuzz("projects")
@given(seed=seeds)
def test_projects(tmp_path: Path, cells: Path, seed: int) -> None:
    """Documents and logs; what is computed is damaged in tests/system/test_project_damage.py."""
    rng = random.Random(seed)
    folder = cells / "cells.voxloop"
    path = folder / rng.choice(["project.json", "annotations.jsonl"])
    original, before = path.read_bytes(), sorted(cells.iterdir())
    path.write_bytes(damaged(rng, original))
    try:
        with own_errors_in_time(), Project.open(folder, read_only=True) as project:
            project.count_labelled_voxels()
            project.missing_files()
            for index, record in enumerate(project.images):
                record.describe()
                project.volume(index).read(Box((0, 0, 0), (1, 1, 1)))
    finally:
        path.write_bytes(original)
    assert sorted(cells.iterdir()) == before


PIECES = (
    *("..", "/", "a", "{slice_index}", "{slice_index:03d}", "{slice_index:99999999d}", "*", "?", "[", "]", "{", "}"),
    *(".tif", ".png", ".h5", ".npy", ".zarr", "1.2.3", ".", ":", "C:", "\0", " ", "~", "\\", "%", "ä", "x" * 300),
)


@pytest.mark.slow
@fuzz("paths")
@given(pieces=st.lists(st.sampled_from(PIECES), min_size=1, max_size=6))
def test_paths(tmp_path: Path, pieces: list[str]) -> None:
    """Whatever a path to read or to write holds, nothing appears outside the folder that it was to stay in."""
    inner = tmp_path / "outer" / "inner"
    shutil.rmtree(tmp_path / "outer", ignore_errors=True)
    inner.mkdir(parents=True)
    text = "".join(pieces).lstrip("/")
    path = Path(f"{inner}/{text}")
    if ".." in Path(text).parts:
        return  # a caller who writes .. means it; patterns with it are refused, see test_io_write
    with own_errors_in_time():
        read(path)
    with own_errors_in_time():
        save_volume(path, IMAGE[:, :4, :4])
    assert [p.name for p in (tmp_path / "outer").iterdir()] == ["inner"]
