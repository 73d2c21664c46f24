from __future__ import annotations

from typing import Any

import pytest

from voxloop.errors import InputError
from voxloop.project.record import Specs
from voxloop.specs import ClassifierSpec, FeatureSpec, Spec


@pytest.mark.parametrize(
    ("spec", "fields", "message"),
    [
        (FeatureSpec, {"context": 5}, "context must be less than or equal to 4, not 5"),
        (FeatureSpec, {"regions": (8, 0)}, "regions[1] must be greater than or equal to 1, not 0"),
        (FeatureSpec, {"regions": (16, 4)}, "regions must ascend, each once; they are [16, 4]"),
        (FeatureSpec, {"own": ["taste"]}, "own[0] must be 'shape', 'boundary' or 'position', not 'taste'"),
        (FeatureSpec, {"left_out": [("hessian",)]}, "left_out[0][1] is missing"),
        (ClassifierSpec, {"trees": 3}, "there is no field trees"),
        (ClassifierSpec, {"seed": [1] * 99}, f"seed must be a valid integer, not [{'1, ' * 25}1..."),
        (Specs, {"slic": {"size": -1}}, "slic: size must be greater than 0, not -1"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(spec: type[Spec], fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as raised:
        spec(**fields)
    assert str(raised.value) == message
