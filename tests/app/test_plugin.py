"""The manifest, and what it names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from npe2 import PluginManifest

import voxloop
from voxloop.app import plugin
from voxloop.app.keys import KEYS
from voxloop.errors import InputError
from voxloop.project import Project

MANIFEST = Path(voxloop.__file__).with_name("napari.yaml")


def test_the_manifest_is_valid_and_all_it_names_can_be_imported() -> None:
    manifest = PluginManifest.from_file(MANIFEST)
    manifest.validate_imports()
    assert manifest.name == "voxloop"
    used = {c.command for kind in ("widgets", "readers", "sample_data") for c in getattr(manifest.contributions, kind)}
    used |= {item.command for items in manifest.contributions.menus.values() for item in items}
    assert used == {command.id for command in manifest.contributions.commands}
    assert list(manifest.contributions.configurations) == ["labelling"]


def test_it_is_found_as_a_plugin_of_napari() -> None:
    found = PluginManifest.from_distribution("voxloop")
    assert found.display_name == "voxloop"


def test_menus_are_ones_that_napari_lets_plugins_add_to() -> None:
    from napari._app_model.constants import MenuId

    contributed = PluginManifest.from_file(MANIFEST).contributions.menus
    assert set(contributed) <= {str(menu) for menu in MenuId.contributables()}


def test_the_reader_takes_projects_only(project_folder: Path, tmp_path: Path) -> None:
    assert plugin.get_reader(str(project_folder)) is plugin.read_project
    assert plugin.get_reader(str(tmp_path)) is None
    assert plugin.get_reader([str(project_folder)]) is None


def test_without_a_window_a_project_is_read_as_layers(project_folder: Path) -> None:
    ((data, options, kind),) = plugin.read_project(str(project_folder))
    with Project.open(project_folder, read_only=True) as project:
        assert np.array_equal(data, project.volume().read()[0])
        assert options["scale"] == project.images[0].spacing
    assert kind == "image"


@pytest.mark.slow
def test_the_electron_sample_is_a_layer() -> None:
    ((data, options, kind),) = plugin.sample_electron()
    assert (data.shape, kind) == ((64, 256, 256), "image")
    assert options["units"] == ("nanometer",) * 3


@pytest.mark.slow
def test_the_brain_sample_is_a_layer_or_says_what_is_missing() -> None:
    try:
        ((data, options, _),) = plugin.sample_brain()
    except InputError as error:
        pytest.skip(str(error))
    assert data.shape == (189, 233, 197)
    assert options["units"] == ("millimeter",) * 3


def test_no_key_is_given_twice() -> None:
    bound = [key.key for key in KEYS if key.key]
    assert len(set(bound)) == len(bound)
