"""What the user chose, as frozen data with a digest. What is stale follows from comparing digests."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from voxloop.errors import InputError

PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]

FeatureFamily = Literal[
    "gaussian",
    "laplacian",
    "gradient_magnitude",
    "difference_of_gaussians",
    "structure_tensor",
    "hessian",
]
FAMILIES: tuple[FeatureFamily, ...] = (
    "gaussian",
    "laplacian",
    "gradient_magnitude",
    "difference_of_gaussians",
    "structure_tensor",
    "hessian",
)
SIGMAS: tuple[float, ...] = (0.3, 0.7, 1.0, 1.6, 3.5, 5.0, 10.0)
Statistic = Literal["mean", "std", "min", "max", "q10", "q50", "q90"]
OwnFamily = Literal["shape", "boundary", "position"]
StrategyName = Literal[
    "random", "typiclust", "kinds", "feature", "geometric", "combined", "bald", "power", "clasp", "diverse", "mixed"
]
UncertaintyKind = Literal["total_entropy", "selection_entropy", "conditional_entropy", "min_max", "min_margin"]


class Spec(BaseModel):
    """Base of the specs: frozen, no unknown fields, wrong values raise `InputError` in one line."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise InputError(describe_validation(error)) from None

    @property
    def digest(self) -> str:
        """Hexadecimal digest of the fields; equal specs have equal digests on every machine."""
        return digest_of(type(self).__name__, self.model_dump(mode="json"))

    def changed(self, **fields: Any) -> Self:
        """Return a validated copy with some fields replaced."""
        return type(self)(**{**self.model_dump(), **fields})


def digest_of(*parts: Any) -> str:
    """Return the hexadecimal digest of JSON-able parts."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def describe_validation(error: ValidationError) -> str:
    """Return the first problem of a pydantic error as one line: which field, what is expected, what was given."""
    first = error.errors(include_url=False, include_context=False)[0]
    reason = first["msg"].removeprefix("Value error, ")
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).removeprefix(".")
    if not field:  # what holds for several fields names them itself
        return reason
    if first["type"] == "missing":
        return f"{field} is missing"
    if first["type"] == "extra_forbidden":
        return f"there is no field {field}"
    if first["type"] == "value_error":  # it says what was given
        return f"{field}: {reason}"
    given = repr(first["input"])
    given = given if len(given) <= 80 else f"{given[:77]}..."
    expected = reason.removeprefix("Input should ")
    return f"{field}: {reason}, not {given}" if expected == reason else f"{field} must {expected}, not {given}"


# Voxels of a supervoxel, as small as some 50,000 of them allow, which a live update follows in a third of a second.
# What comes out of it on small volumes: docs/decisions/0019-size-by-volume.md
LARGEST_SIZE, SMALLEST_SIZE, COMFORTABLE_NUMBER = 200.0, 40.0, 50_000


def default_size(n_voxels: int) -> float:
    """Return the size in voxels that the supervoxels of a volume of `n_voxels` have unless one is asked for."""
    return min(LARGEST_SIZE, max(SMALLEST_SIZE, float(round(n_voxels / COMFORTABLE_NUMBER))))


class SlicSpec(Spec):
    """How the volume is cut into supervoxels: by SLIC, or by a seeded watershed on the gradient magnitude.

    Give `n_segments` or `size` (voxels per supervoxel), not both; with neither, `size` is the `default_size` of the
    volume, in a project that of its first image. Intensities are compared twice: smoothed by `sigma`, and smoothed by
    `coarse_sigma`, which tells regions apart that noise and texture hide (0 leaves that out). Both are in voxels of the
    finest axis. `channel_weights` multiply the contrast of each channel (by default 1): 0 leaves a channel out of the
    supervoxels, though not out of the features. `compactness` and `max_num_iter` are for SLIC alone.
    """

    method: Literal["slic", "watershed"] = "slic"
    n_segments: Annotated[int, Field(ge=1)] | None = None
    size: PositiveFloat | None = None
    compactness: PositiveFloat = 0.3
    max_num_iter: Annotated[int, Field(ge=1, le=1000)] = 10
    sigma: NonNegativeFloat = 0.7
    coarse_sigma: NonNegativeFloat = 4.0
    min_size_factor: Annotated[float, Field(ge=0, le=1)] = 0.25
    channel_weights: Annotated[tuple[NonNegativeFloat, ...], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _one_measure(self) -> Self:
        if self.n_segments is not None and self.size is not None:
            raise ValueError("give n_segments or size, not both")
        if self.channel_weights is not None and not any(self.channel_weights):
            raise ValueError("channel_weights must have one above 0")
        return self

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> Self:
        for name in ("compactness", "max_num_iter"):
            if self.method == "watershed" and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} is for the method slic; a watershed has none")
        return self

    @property
    def digest(self) -> str:
        """Hexadecimal digest of the fields; that of SLIC is what it was before there was another method."""
        without = {"method"} if self.method == "slic" else None
        return digest_of(type(self).__name__, self.model_dump(mode="json", exclude=without))


class FeatureSpec(Spec):
    """Which filters describe the voxels, and how they are pooled over a supervoxel.

    Every family is computed at every sigma but for the pairs in `left_out`; 0.3 serves Gaussian smoothing only.
    Sigmas in `sigmas_2d` are computed slice by slice. With `resolution` "coarse" a large sigma is evaluated on every
    second, fourth, ... voxel and interpolated; the definition "ilastik" is always evaluated in full. `own` are families
    that describe a supervoxel by itself and need no sigma. `context` is how many steps along the graph the surroundings
    are described, too, and `regions` within how many steps the region is that a supervoxel lies in: its averages hardly
    cross edges of the image, and how much varies around them is described as well.
    """

    definition: Literal["voxloop", "ilastik"] = "voxloop"
    resolution: Literal["full", "coarse"] = "coarse"
    families: tuple[FeatureFamily, ...] = FAMILIES
    sigmas: tuple[PositiveFloat, ...] = SIGMAS
    sigmas_2d: tuple[PositiveFloat, ...] = ()
    left_out: tuple[tuple[FeatureFamily, PositiveFloat], ...] = ()
    statistics: tuple[Statistic, ...] = ("mean", "std")
    own: tuple[OwnFamily, ...] = ()
    context: Annotated[int, Field(ge=0, le=4)] = 1
    regions: tuple[Annotated[int, Field(ge=1, le=64)], ...] = (24,)  # docs/decisions/0027 and 0033

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        for name in ("families", "sigmas", "statistics", "own", "left_out"):
            chosen = getattr(self, name)
            if not chosen and name not in ("own", "left_out"):
                raise ValueError(f"{name} must name at least one")
            if len(set(chosen)) != len(chosen):
                raise ValueError(f"{name} names something twice")
        if list(self.regions) != sorted(set(self.regions)):
            raise ValueError(f"regions must ascend, each once; they are {list(self.regions)}")
        if unknown := set(self.sigmas_2d) - set(self.sigmas):
            raise ValueError(f"sigmas_2d holds {sorted(unknown)}, which sigmas does not")
        if strange := [f"{f}:{s:g}" for f, s in self.left_out if f not in self.families or s not in self.sigmas]:
            raise ValueError(f"left_out holds {', '.join(strange)}, which is not among families and sigmas")
        if not any(self.families_at(sigma) for sigma in self.sigmas):
            raise ValueError("no family is left: sigmas below 0.5 serve gaussian only")
        return self

    @property
    def digest(self) -> str:
        """Hexadecimal digest of the fields; without what came later and is empty, what it was before that came."""
        empty = {name for name in ("left_out", "regions") if not getattr(self, name)}
        return digest_of(type(self).__name__, self.model_dump(mode="json", exclude=empty))

    def changed(self, **fields: Any) -> Self:
        """Return a validated copy with some fields replaced; of what was left out, what is still a choice stays so."""
        families, sigmas = fields.get("families", self.families), fields.get("sigmas", self.sigmas)
        kept = tuple((f, s) for f, s in self.left_out if f in families and s in sigmas)
        return super().changed(**{"left_out": kept, **fields})

    def families_at(self, sigma: float) -> tuple[FeatureFamily, ...]:
        """Return the families computed at `sigma`: below 0.5 a derivative of a Gaussian cannot be sampled."""
        chosen = (family for family in self.families if sigma >= 0.5 or family == "gaussian")
        return tuple(family for family in chosen if (family, sigma) not in self.left_out)


MOST_SMOOTHING = 100


class ClassifierSpec(Spec):
    """The forests that learn from the labelled supervoxels.

    `balanced` gives the classes the same weight in all. `autocontext` adds a second forest that sees the first one's
    opinion of the neighbourhood. `calibrated` shifts and scales the probabilities by what is said of labels that were
    held out. `smoothing` is how many times probabilities are averaged along the graph at last, less across edges of
    the image; None is once, as strongly as labels are no harder than the volume, and never if not `calibrated`.
    """

    n_trees: Annotated[int, Field(ge=1, le=10_000)] = 100
    min_samples_leaf: Annotated[int, Field(ge=1)] = 1
    max_features: Literal["sqrt", "log2", "all"] = "sqrt"
    balanced: bool = True
    autocontext: bool = True
    calibrated: bool = True
    smoothing: Annotated[int, Field(ge=0, le=MOST_SMOOTHING)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0


class QuerySpec(Spec):
    """How the next place to label is chosen.

    `strategy` is a name of `voxloop.active.STRATEGIES`; `tau` and `weight` are those of geometric and combined
    uncertainty. `radius` is that of a plane's patch, in voxels of the finest axis. `budget` is how many supervoxels one
    means to label: strategies that explore first calm down with it.
    """

    strategy: StrategyName = "mixed"
    uncertainty: UncertaintyKind = "total_entropy"
    tau: Annotated[int, Field(ge=0, le=20)] = 4
    weight: NonNegativeFloat = 1.0
    top_share: Annotated[float, Field(gt=0, le=1)] = 0.1
    radius: PositiveFloat = 12.0
    budget: Annotated[int, Field(ge=1)] = 200
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
