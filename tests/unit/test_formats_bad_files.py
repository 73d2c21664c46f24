"""Damaged, hostile and unsuitable files of all formats: one clear line of the right type, and nothing else is read."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import zipfile
from types import SimpleNamespace

import h5py
import mrcfile
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
import tifffile
from PIL import Image

from voxloop.errors import FormatError, InputError, MissingFileError, VoxloopError
from voxloop.io import open_volume, save_volume

STACK = np.random.default_rng(1).integers(0, 4000, (6, 20, 30), np.uint16)


def message_of(error: type[VoxloopError], path, **arguments) -> str:
    """Return the one line that opening, or else reading, raises."""
    with pytest.raises(error) as caught:
        open_volume(path, **arguments).read()
    message = str(caught.value)
    assert "\n" not in message
    return message


def write_all(folder):
    """Write a file of each format and return their paths."""
    names = ["a.h5", "a.nii", "a.nii.gz", "a.mrc", "a.nrrd"]
    for name in names:
        save_volume(folder / name, STACK)
    Image.fromarray(STACK[0]).save(folder / "a.png")
    Image.fromarray(STACK[0].astype(np.uint8)).save(folder / "a.jpg")
    Image.fromarray(STACK[0].astype(np.uint8)).save(folder / "a.bmp")
    np.savez_compressed(folder / "a.npz", a=STACK)
    for compressed in (False, True):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(STACK), str(folder / f"a{compressed:d}.mha"), compressed)
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(STACK), str(folder / f"b{compressed:d}.nrrd"), compressed)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(STACK[0]), str(folder / "a.dcm"))
    return sorted(folder.iterdir())


SUFFIXES = [".h5", ".nii", ".nii.gz", ".mrc", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm", ".npz", ".png", ".jpg", ".bmp"]


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b", b"not an image at all", bytes(range(256)) * 40])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_garbage(tmp_path, suffix, content):
    (tmp_path / f"a{suffix}").write_bytes(content)
    assert f"a{suffix}" in message_of(FormatError, tmp_path / f"a{suffix}")


def test_truncated_files_are_noticed_wherever_they_end(tmp_path):
    for path in write_all(tmp_path):
        whole = path.read_bytes()
        expected = open_volume(path).read()
        refused = 0
        for length in np.linspace(0, len(whole) - 1, 25, dtype=int):
            path.write_bytes(whole[:length])
            try:
                voxels = open_volume(path).read()
            except FormatError as error:
                assert path.name in str(error)  # noqa: PT017 - the last bytes may be no voxels
                assert "\n" not in str(error)  # noqa: PT017
                refused += 1
            else:
                np.testing.assert_array_equal(voxels, expected)
        assert refused >= 22, path.name


@pytest.mark.parametrize(
    "name", ["a.h5", "a.nii", "a.png", "s/*.png", "s_{slice_index}.tif", "a.nii/inside", "no/1.2.3"]
)
def test_what_is_missing(tmp_path, name):
    if name == "a.nii/inside":
        save_volume(tmp_path / "a.nii", STACK)
    assert name.split("/")[0] in message_of(MissingFileError, tmp_path / name)


def test_a_missing_library_is_named(tmp_path):
    code = """
import sys
sys.modules.update({name: None for name in ("h5py", "z5py", "nibabel", "mrcfile", "nrrd", "pydicom", "PIL")})
sys.modules["imagecodecs"] = None
from voxloop.errors import InputError
from voxloop.io import open_volume, save_volume
for name in sys.argv[1:]:
    try:
        open_volume(name).read()
    except InputError as error:
        print(error)
"""
    names = ["a.h5", "a.n5", "a.nii", "a.mrc", "a.nrrd"]
    for name in names:
        save_volume(tmp_path / name, STACK)
    Image.fromarray(STACK[0]).save(tmp_path / "a.png")
    (tmp_path / "a.dcm").write_bytes(b"")
    tifffile.imwrite(tmp_path / "a.tif", STACK, compression="zstd")
    paths = [str(tmp_path / name) for name in (*names, "a.png", "a.dcm", "a.tif")]
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    libraries = ["h5py", "z5py", "nibabel", "mrcfile", "nrrd", "PIL", "pydicom", "imagecodecs"]
    assert len(lines) == len(libraries), done.stdout
    for line, library in zip(lines, libraries, strict=True):
        assert f'needs {library}, which is not installed: pip install "voxloop[formats]"' in line


def test_a_wrong_path_inside(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["volume/raw"] = STACK
        file["volume/text"] = "no image"
    assert "holds no dataset 'volume/row'; it holds /volume/raw (6, 20, 30) uint16" in message_of(
        InputError, tmp_path / "a.h5" / "volume" / "row"
    )
    assert "'volume' in" in message_of(InputError, tmp_path / "a.h5", dataset="volume")
    message_of(InputError, tmp_path / "a.h5", dataset="volume/text")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_group("empty")
    assert "holds no image" in message_of(FormatError, tmp_path / "b.h5")
    np.savez(tmp_path / "a.npz", raw=STACK)
    assert "holds no array 'row'; it holds raw" in message_of(InputError, tmp_path / "a.npz" / "row")


@pytest.mark.parametrize("trick", ["external link", "external storage", "virtual dataset"])
def test_hdf5_leads_nowhere_outside_its_folder(tmp_path, trick):
    secret = tmp_path / "home" / "secret.bin"
    folder = tmp_path / "download"
    folder.mkdir()
    secret.parent.mkdir()
    with h5py.File(secret, "w") as file:
        file["a"] = STACK
    with h5py.File(folder / "a.h5", "w") as file:
        if trick == "external link":
            file["trap"] = h5py.ExternalLink(str(secret), "/a")
        elif trick == "external storage":
            file.create_dataset("trap", (10, 10), np.uint8, external=[(str(secret), 0, 100)])
        else:
            layout = h5py.VirtualLayout(STACK.shape, STACK.dtype)
            layout[:] = h5py.VirtualSource(str(secret), "a", STACK.shape)
            file.create_virtual_dataset("trap", layout)
    assert "which is not in its folder" in message_of(FormatError, folder / "a.h5" / "trap")


@pytest.mark.parametrize("kind", ["nhdr", "mhd"])
@pytest.mark.parametrize("target", ["../secret.raw", "{root}/secret.raw", "x/../../secret.raw", "link.raw", "no.raw"])
def test_headers_lead_nowhere_outside_their_folder(tmp_path, kind, target):
    folder = tmp_path / "download"
    (folder / "x").mkdir(parents=True)
    (tmp_path / "secret.raw").write_bytes(STACK.tobytes())
    (folder / "link.raw").symlink_to(tmp_path / "secret.raw")
    target = target.format(root=tmp_path)
    (folder / "a.nhdr").write_text(
        f"NRRD0004\ntype: ushort\ndimension: 3\nsizes: 30 20 6\nendian: little\nencoding: raw\ndata file: {target}\n"
    )
    (folder / "a.mhd").write_text(
        f"NDims = 3\nDimSize = 30 20 6\nElementType = MET_USHORT\nElementDataFile = {target}\n"
    )
    message = message_of(FormatError, folder / f"a.{kind}")
    assert "expected one in its own folder" in message or "does not exist" in message or "leads out of" in message


def test_a_folder_may_hold_links_to_slices_elsewhere(tmp_path):
    for name in ("a.png", "b.png"):
        Image.fromarray(STACK[0]).save(tmp_path / name)
    (tmp_path / "links").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "links" / name).symlink_to(tmp_path / name)
    assert open_volume(tmp_path / "links").shape == (2, 20, 30)


def bomb_nifti(path, shape):
    """Write a NIfTI whose header announces `shape` and that holds as many zeros as 10 kB can."""
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape(shape)
    header["magic"], header["vox_offset"] = b"n+1", 352
    path.write_bytes(gzip.compress(header.binaryblock + bytes(10_000_000)))


def test_compressed_files_cannot_fill_memory_or_disk(tmp_path, monkeypatch):
    bomb_nifti(tmp_path / "a.nii.gz", (20_000, 20_000, 20_000))
    assert "cannot hold the 8000000000000 that it announces" in message_of(FormatError, tmp_path / "a.nii.gz")
    bomb_nifti(tmp_path / "b.nii.gz", (10, 10, 10))
    assert open_volume(tmp_path / "b.nii.gz").read().nbytes == 1000  # what follows is not even decompressed
    bomb_nifti(tmp_path / "c.nii.gz", (200, 200, 200))
    monkeypatch.setattr("voxloop.io.raw.shutil.disk_usage", lambda _: SimpleNamespace(free=1_000_000))
    assert "takes 8000000 bytes when it is decompressed" in message_of(InputError, tmp_path / "c.nii.gz")


def test_an_archive_that_announces_more_than_it_holds(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as file:
        np.lib.format.write_array_header_1_0(
            file, {"shape": (10_000, 10_000, 10_000), "fortran_order": False, "descr": "<u2"}
        )
    assert "announces" in message_of(FormatError, tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", a=np.array([[{}]], object))
    assert "holds Python objects" in message_of(FormatError, tmp_path / "b.npz")


def test_an_image_that_announces_more_pixels_than_memory_holds(tmp_path):
    Image.fromarray(STACK[0].astype(np.uint8)).save(tmp_path / "a.bmp")
    content = bytearray((tmp_path / "a.bmp").read_bytes())
    content[18:26] = np.array([2_000_000, 2_000_000], "<i4").tobytes()
    (tmp_path / "a.bmp").write_bytes(content)
    assert "announces 2000000 x 2000000 pixels" in message_of(InputError, tmp_path / "a.bmp")


def test_slices_that_do_not_fit_each_other(tmp_path):
    Image.fromarray(STACK[0]).save(tmp_path / "1.png")
    Image.fromarray(STACK[0, :, :20]).save(tmp_path / "2.png")
    message = message_of(InputError, tmp_path)
    assert "2.png is 20 x 20 uint16 but 1.png is 20 x 30 uint16; the slices of a stack must be alike" in message
    Image.fromarray(STACK[0].astype(np.uint8)).save(tmp_path / "2.png")
    assert "2.png is 20 x 30 uint8 but 1.png is 20 x 30 uint16" in message_of(InputError, tmp_path)
    Image.fromarray(STACK[0].astype(np.uint8)).save(tmp_path / "3.bmp")
    assert "holds .bmp and .png images; choose some, such as with *.bmp" in message_of(InputError, tmp_path)
    (tmp_path / "4.txt").write_text("x")
    assert "4.txt is not a PNG, JPEG, BMP or TIFF image" in message_of(InputError, tmp_path / "*.*")
    tifffile.imwrite(tmp_path / "5.tif", STACK)
    assert "a stack is made of single slices" in message_of(InputError, tmp_path / "*.tif")


def test_a_slice_that_changes_after_opening(tmp_path):
    save_volume(tmp_path / "{slice_index}.png", STACK)
    volume = open_volume(tmp_path)
    Image.fromarray(STACK[0, :10]).save(tmp_path / "3.png")
    with pytest.raises(InputError, match=r"3\.png is 10 x 30 uint16"):
        volume.read()


def write_series(folder, positions, **fields):
    """Write a slice with ITK for each position, and change what pydicom is told to."""
    folder.mkdir(exist_ok=True)
    for i, position in enumerate(positions):
        file = folder / f"{i}.dcm"
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(STACK[i % 6]), str(file))
        dataset = pydicom.dcmread(file)
        dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, 0, position], [1, 0, 0, 0, 1, 0]
        dataset.SeriesInstanceUID, dataset.PixelSpacing = "1.2.3", [1, 1]
        for name, value in fields.items():
            setattr(dataset, name, value)
        dataset.save_as(file)
    return folder


def test_series_that_are_no_volume(tmp_path):
    assert open_volume(write_series(tmp_path / "whole", range(0, 12, 2))).spacing == (2, 1, 1)
    assert "lacks slices: 2.dcm and 3.dcm are 4 mm apart, others 2" in message_of(
        InputError, write_series(tmp_path / "gap", [0, 2, 4, 8, 10, 12])
    )
    assert "2.dcm and 3.dcm lie at one position" in message_of(
        InputError, write_series(tmp_path / "twice", [0, 2, 4, 4, 6, 8])
    )
    frames = write_series(tmp_path / "frames", [0], NumberOfFrames=3)
    assert "holds 3 frames; expected a series with one image per file" in message_of(InputError, frames)
    turned = write_series(tmp_path / "turned", [0, 1, 2])
    write_series(tmp_path / "other", [3], ImageOrientationPatient=[0, 1, 0, 0, 0, 1])
    (tmp_path / "other" / "0.dcm").rename(turned / "9.dcm")
    assert "9.dcm has another orientation or pixel size than 0.dcm" in message_of(InputError, turned)
    assert "holds no DICOM images of series 1.2.9" in message_of(FormatError, tmp_path / "gap" / "1.2.9")


def test_dicom_compressed_by_what_is_not_supported(tmp_path):
    folder = write_series(tmp_path / "a", [0])
    dataset = pydicom.dcmread(folder / "0.dcm")
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.MPEG2MPML
    dataset.PixelData = pydicom.encaps.encapsulate([b"\0" * 100])
    dataset.save_as(folder / "0.dcm")
    assert "is compressed by MPEG2 Main Profile" in message_of(FormatError, folder)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({}, "is an N5 group without datasets"),
        ({"dimensions": [3, 4, 5], "compression": {"type": "raw"}}, "cannot be read as N5"),
        ([], "holds no attributes"),
        (
            {"dimensions": [3, 4, 5], "blockSize": [3, 4, 5], "dataType": "uint8", "compression": {"type": "lz4"}},
            "is compressed by lz4; expected raw, gzip, bzip2, xz, blosc, zstd",
        ),
    ],
)
def test_an_n5_with_metadata_that_cannot_be_used(tmp_path, attributes, message):
    (tmp_path / "a.n5" / "raw").mkdir(parents=True)
    (tmp_path / "a.n5" / "attributes.json").write_text('{"n5": "2.5.1"}')
    (tmp_path / "a.n5" / "raw" / "attributes.json").write_text(json.dumps(attributes))
    assert message in message_of(FormatError, tmp_path / "a.n5")


def test_an_n5_dataset_outside_a_container(tmp_path):
    save_volume(tmp_path / "a.n5", STACK)
    (tmp_path / "a.n5" / "attributes.json").unlink()
    assert "lies in no N5 container" in message_of(FormatError, tmp_path / "a.n5")


def test_a_damaged_block_of_an_n5(tmp_path):
    save_volume(tmp_path / "a.n5", STACK)
    (tmp_path / "a.n5" / "exported_data" / "0" / "0" / "0").write_bytes(b"nothing like a block")
    assert "cannot be read as N5" in message_of(FormatError, tmp_path / "a.n5")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("encoding: ascii", "has encoding 'ascii'; expected raw, gzip or bzip2"),
        ("encoding: raw\ndata file: LIST\na.raw\n", "several files|cannot be read"),
        ("encoding: raw\ndata file: a%02d.raw 1 6 1", "keeps its voxels in several files"),
        ("encoding: raw\nbyte skip: -5", "is truncated|cannot be read"),
        ("encoding: raw\nendian: little\nsizes: 30 20 6", "cannot be read as NRRD: Duplicate header field"),
    ],
)
def test_nrrd_headers_that_cannot_be_used(tmp_path, header, message):
    (tmp_path / "a.nrrd").write_text(f"NRRD0004\ntype: ushort\ndimension: 3\nsizes: 30 20 6\n{header}\n\n")
    found = message_of(FormatError, tmp_path / "a.nrrd")
    assert any(part in found for part in message.split("|"))


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("NDims = 4", "NDims is 4 and DimSize '30 20 6'"),
        ("ElementType = MET_STRING", "cannot be read as MetaImage"),
        ("BinaryData = False", "holds its voxels as text"),
        ("DimSize = 30 0 6", "there are no voxels in it"),
        ("DimSize = 300000 200000 600000", "is truncated"),
    ],
)
def test_metaimage_headers_that_cannot_be_used(tmp_path, field, message):
    fields = {"NDims": "3", "DimSize": "30 20 6", "ElementType": "MET_USHORT"} | dict([field.split(" = ")])
    header = "".join(f"{key} = {value}\n" for key, value in fields.items()) + "ElementDataFile = LOCAL\n"
    (tmp_path / "a.mha").write_bytes(header.encode() + STACK.tobytes())
    assert message in message_of(FormatError, tmp_path / "a.mha")


def test_voxels_that_are_no_numbers(tmp_path):
    nibabel.Nifti1Image(STACK.astype(np.complex64).T, np.eye(4)).to_filename(tmp_path / "a.nii")
    assert "expected integers, floats or booleans" in message_of(InputError, tmp_path / "a.nii")
    with mrcfile.new(tmp_path / "a.mrc") as mrc:
        mrc.set_data(STACK.astype(np.complex64))
    assert "expected integers, floats or booleans" in message_of(InputError, tmp_path / "a.mrc")
