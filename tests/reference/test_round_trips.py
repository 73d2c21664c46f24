"""What a project exports, read by the programs that it is for: values, shape, order, voxel size, unit, names, place."""

from __future__ import annotations

import json
from pathlib import Path

import bioio
import h5py
import mrcfile
import nibabel
import numpy as np
import ome_types
import pytest
import SimpleITK
import tensorstore
import tifffile
import yaozarrs

from voxloop.io import open_volume
from voxloop.project import Project
from voxloop.samples import Sample

CROP = (slice(3, 15), slice(None), slice(4, 40))


@pytest.fixture
def project(cells: Path):
    with Project.open(cells / "cells.voxloop") as opened:
        yield opened


@pytest.fixture
def expected(project: Project, tmp_path: Path) -> dict[str, np.ndarray]:
    """The sources as npy files have them: (z, y, x) or (z, y, x, c)."""
    arrays = {}
    for source in ("segmentation", "probabilities", "supervoxels"):
        project.export(source, tmp_path / "e.npy", overwrite=True, crop=CROP)
        arrays[source] = np.load(tmp_path / "e.npy")
    return arrays


def exported(project: Project, source: str, path: Path, **options) -> str:
    return str(project.export(source, path, crop=CROP, **options)[0])


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("source", ["segmentation", "probabilities", "supervoxels"])
def test_ome_zarr(project, expected, tmp_path, version: str, source: str) -> None:
    path = exported(project, source, tmp_path / "a.zarr", ome_zarr=version)
    yaozarrs.validate_zarr_store(path)
    driver = {"0.4": "zarr", "0.5": "zarr3"}[version]
    store = tensorstore.open({"driver": driver, "kvstore": {"driver": "file", "path": f"{path}/0/"}}).result()
    array = expected[source]
    np.testing.assert_array_equal(
        store.read().result(), np.moveaxis(array, -1, 0) if source == "probabilities" else array
    )
    metadata = yaozarrs.open_group(path).ome_metadata()
    (multiscale,) = metadata.multiscales
    axes = [axis for axis in multiscale.axes if axis.type == "space"]
    assert [(axis.name, axis.unit) for axis in axes] == [(a, "nanometer") for a in "zyx"]
    assert multiscale.datasets[0].coordinateTransformations[0].scale[-3:] == [10, 8, 8]
    if source == "probabilities":
        assert [channel.label for channel in metadata.omero.channels] == ["background", "mitochondria"]
        colors = [c.color[1:].upper() for c in project.annotations.classes]
        assert [channel.color for channel in metadata.omero.channels] == colors
    place = multiscale.datasets[0].coordinateTransformations[1].translation
    assert place[-3:] == [30, 0, 32]  # of the part in the image


@pytest.mark.parametrize("layout", ["plain", "pyramid"])
@pytest.mark.parametrize("source", ["segmentation", "probabilities", "supervoxels"])
def test_ome_tiff(project, expected, tmp_path, source: str, layout: str) -> None:
    path = exported(project, source, tmp_path / "a.ome.tif", ome_tiff=layout)
    array = expected[source]
    with tifffile.TiffFile(path) as tif:
        assert tif.is_ome
        pixels = ome_types.from_xml(tif.ome_metadata).images[0].pixels
        read = tif.series[0].asarray()
    np.testing.assert_array_equal(read, np.moveaxis(array, -1, 0) if source == "probabilities" else array)
    assert (pixels.size_z, pixels.size_y, pixels.size_x) == array.shape[:3]
    assert (pixels.physical_size_z, pixels.physical_size_y, pixels.physical_size_x) == (10, 8, 8)
    assert pixels.physical_size_x_unit.value == "nm"
    names = [channel.name for channel in pixels.channels]
    assert names == (["background", "mitochondria"] if source == "probabilities" else [None])
    if source == "probabilities":
        colors = ["#{:02x}{:02x}{:02x}".format(*channel.color.as_rgb_tuple()) for channel in pixels.channels]
        assert colors == [c.color for c in project.annotations.classes]


@pytest.mark.filterwarnings("ignore:As of version 0.4.0, the parser argument")  # bioio-ome-tiff still gives it
@pytest.mark.parametrize("layout", ["plain", "pyramid"])
def test_ome_tiff_in_bioio(project, expected, tmp_path, layout: str) -> None:
    image = bioio.BioImage(exported(project, "probabilities", tmp_path / "a.ome.tif", ome_tiff=layout))
    assert type(image.reader).__module__ == "bioio_ome_tiff.reader"
    assert image.dims.order == "TCZYX"
    np.testing.assert_array_equal(image.data[0], np.moveaxis(expected["probabilities"], -1, 0))
    assert image.physical_pixel_sizes[:3] == (10, 8, 8)
    assert list(image.channel_names) == ["background", "mitochondria"]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("source", ["segmentation", "probabilities", "supervoxels"])
def test_nifti(project, expected, tmp_path, suffix: str, source: str) -> None:
    path = exported(project, source, tmp_path / f"a{suffix}")
    image = nibabel.load(path)
    array = expected[source]
    read = np.asanyarray(image.dataobj)
    if source == "probabilities":
        read = read[:, :, :, 0]
        np.testing.assert_array_equal(np.moveaxis(read, -1, 0).transpose(0, 3, 2, 1), np.moveaxis(array, -1, 0))
    else:
        np.testing.assert_array_equal(read.T, array)
        itk = SimpleITK.ReadImage(path)
        np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(itk), array)
        assert itk.GetSpacing() == pytest.approx((8e-6, 8e-6, 1e-5))  # always millimetres
    assert image.header.get_xyzt_units()[0] == "micron"
    assert image.header.get_zooms()[:3] == pytest.approx((0.008, 0.008, 0.01))


@pytest.mark.parametrize("source", ["segmentation", "probabilities", "supervoxels"])
def test_nrrd(project, expected, tmp_path, source: str) -> None:
    path = exported(project, source, tmp_path / "a.nrrd", axes="zyxc" if source == "probabilities" else None)
    itk = SimpleITK.ReadImage(path)
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(itk), expected[source])
    assert itk.GetSpacing() == (8, 8, 10)
    if source == "segmentation":
        assert itk.GetMetaData("Segment1_Name") == "mitochondria"


def test_mrc(project, expected, tmp_path) -> None:
    path = exported(project, "segmentation", tmp_path / "a.mrc")
    assert mrcfile.validate(path)
    with mrcfile.open(path) as mrc:
        np.testing.assert_array_equal(mrc.data, expected["segmentation"])
        size = mrc.voxel_size
        assert (size.z, size.y, size.x) == pytest.approx((100, 80, 80))  # angstrom


@pytest.mark.parametrize("axes", ["zyxc", "xyzc"])
def test_hdf5_and_n5(project, expected, tmp_path, axes: str) -> None:
    array = expected["probabilities"].transpose(["zyxc".index(a) for a in axes])
    with h5py.File(exported(project, "probabilities", tmp_path / "a.h5", axes=axes)) as file:
        dataset = file["exported_data"]
        np.testing.assert_array_equal(dataset, array)
        tags = json.loads(dataset.attrs["axistags"])["axes"]
        assert "".join(tag["key"] for tag in tags) == axes
        assert {tag["key"]: tag["resolution"] for tag in tags} == {"z": 10, "y": 8, "x": 8, "c": 0}
    path = exported(project, "probabilities", tmp_path / "a.n5", axes=axes)
    spec = {"driver": "n5", "kvstore": {"driver": "file", "path": f"{path}/exported_data/"}}
    store = tensorstore.open(spec).result()
    np.testing.assert_array_equal(store.read().result().T, array)
    assert store.domain.labels == tuple(axes[::-1])
    units = dict(zip(axes[::-1], store.dimension_units, strict=True))
    assert [(units[a].multiplier, units[a].base_unit) for a in "zyx"] == [(10, "nm"), (8, "nm"), (8, "nm")]


def test_a_scan_and_its_segmentation_lie_over_one_another(tmp_path, small_sample: Sample) -> None:
    """A NIfTI with an oblique affine, cropped at import and at export: every voxel where it was."""
    affine = np.array([[-0.9, 0.1, 0.3, 80], [0.2, -0.8, 0.5, -40], [0.1, 0.4, 1.7, 25], [0, 0, 0, 1]])
    scan = nibabel.Nifti1Image(np.asarray(small_sample.image.data).T, affine)
    scan.header.set_xyzt_units("mm")
    nibabel.save(scan, tmp_path / "scan.nii.gz")
    crop = (slice(2, None), slice(5, None), slice(1, None))
    with Project.create(tmp_path / "p.voxloop", tmp_path / "scan.nii.gz", classes=["a", "b"], crop=crop) as project:
        project.configure(slic={"size": 100.0}, features={"sigmas": (0.7,)}, classifier={"n_trees": 3})
        truth = small_sample.truth[crop]
        project.paint("a", truth == 1)
        project.paint("b", truth == 2)
        for suffix in (".nii.gz", ".nrrd"):
            project.export("segmentation", tmp_path / f"s{suffix}", crop=(slice(1, 9), slice(0, 30), slice(3, 40)))
    place = affine @ [4, 5, 3, 1]
    np.testing.assert_allclose(nibabel.load(tmp_path / "s.nii.gz").affine[:3, :3], affine[:3, :3], rtol=1e-6)
    np.testing.assert_allclose(nibabel.load(tmp_path / "s.nii.gz").affine[:3, 3], place[:3], rtol=1e-6)
    np.testing.assert_allclose(
        open_volume(tmp_path / "s.nrrd").affine, open_volume(tmp_path / "s.nii.gz").affine, rtol=1e-5
    )
    itk = SimpleITK.ReadImage(str(tmp_path / "s.nrrd"))
    assert itk.TransformIndexToPhysicalPoint((0, 0, 0)) == pytest.approx(tuple(place[:3] * [-1, -1, 1]))
