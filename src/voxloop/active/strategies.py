"""Query strategies: which supervoxels to label next.

A strategy is frozen data with one method, ``query(state, number, rng=...)``. As long as the classifier knows too little
to be asked (see `QueryState.is_cold`), every strategy that would ask it asks for different `Kinds` instead.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from voxloop.active.diverse import diverse_queue
from voxloop.active.geometry import (
    MAX_TAU,
    combined_uncertainty,
    geometric_uncertainty,
    propagate,
    supervoxel_rows,
)
from voxloop.active.typical import different_rows, embed, typical_rows
from voxloop.active.uncertainty import uncertainty
from voxloop.classify import Forest, Prediction, SupervoxelLabels
from voxloop.errors import InputError
from voxloop.specs import QuerySpec, UncertaintyKind
from voxloop.volume import Spacing, relative_spacing

# Stands for a score of 0 where a logarithm is taken: behind all others, and in random order among its like.
_TINY = 1e-12
# So many supervoxels make a slice or a plane worth looking at while nothing is known.
_N_TYPICAL = 50


@dataclass(frozen=True, eq=False)
class QueryState:
    """What is known of one image when the next supervoxels are chosen.

    Attributes
    ----------
    features
        (n, f) table of the supervoxels 1..n.
    centers
        (n, 3) their centres in voxels (z, y, x).
    graph
        (n, n) from `neighbour_graph`.
    labels
        The supervoxels that are labelled: never asked for again.
    prediction
        What the classifier says of them; None as long as there is no classifier.
    forest
        The classifier itself, for strategies that ask its trees.
    spacing
        Size of a voxel (z, y, x).
    candidates
        Ids to choose from, such as a region of interest; all by default.
    progress
        How much of the labelling is done, from 0 to 1: strategies that explore first calm down with it.
    """

    features: NDArray[np.floating]
    centers: NDArray[np.floating]
    graph: sparse.csr_array
    labels: SupervoxelLabels
    prediction: Prediction | None = None
    forest: Forest | None = None
    spacing: Spacing = (1.0, 1.0, 1.0)
    candidates: NDArray[np.integer] | None = None
    progress: float = 0.0

    def __post_init__(self) -> None:
        n = len(self.features)
        if self.features.ndim != 2 or self.features.shape[1] == 0:
            raise InputError(f"features has shape {self.features.shape}; expected (n, f)")
        if self.centers.shape != (n, 3) or self.graph.shape != (n, n):
            raise InputError(f"centers has shape {self.centers.shape}, graph {self.graph.shape}, for {n} supervoxels")
        if self.prediction is not None and len(self.prediction.probabilities) != n:
            raise InputError(f"prediction has {len(self.prediction.probabilities)} rows for {n} supervoxels")
        if not 0 <= self.progress <= 1:
            raise InputError(f"progress must be 0 to 1, not {self.progress}")
        supervoxel_rows(self.labels.ids, n)
        if self.candidates is not None:
            supervoxel_rows(self.candidates, n)

    @property
    def n(self) -> int:
        """Number of supervoxels."""
        return len(self.features)

    @cached_property
    def open_rows(self) -> NDArray[np.int64]:
        """Rows (ids minus 1) of the candidates that are not labelled, sorted."""
        is_open = np.zeros(self.n, bool)
        is_open[slice(None) if self.candidates is None else supervoxel_rows(self.candidates, self.n)] = True
        is_open[self.labelled_rows] = False
        return np.flatnonzero(is_open)

    @property
    def labelled_rows(self) -> NDArray[np.int64]:
        """Rows of the labelled supervoxels."""
        return supervoxel_rows(self.labels.ids, self.n)

    @property
    def is_cold(self) -> bool:
        """Whether the classifier has nothing to say: there is none, or no class has two labels."""
        return self.prediction is None or np.bincount(self.labels.classes, minlength=1).max() < 2

    @property
    def opinion(self) -> Prediction:
        """What the classifier says; `InputError` if there is none."""
        if self.prediction is None:
            raise InputError("prediction is missing: there is no classifier to ask")
        return self.prediction

    @cached_property
    def _propagated(self) -> dict[tuple[int, bool], NDArray[np.float64]]:
        return {}

    def among(self, candidates: NDArray[np.integer]) -> QueryState:
        """Return the same state with other candidates; what was propagated already is not computed again."""
        other = replace(self, candidates=candidates)
        vars(other)["_propagated"] = self._propagated
        return other

    def propagated(self, tau: int, *, clamp: bool) -> NDArray[np.float64]:
        """Return the probabilities after `tau` steps, the labelled supervoxels held at their class if `clamp`."""
        if (tau, clamp) not in self._propagated:
            self._propagated[tau, clamp] = self._propagate(tau, clamp=clamp)
        return self._propagated[tau, clamp]

    def _propagate(self, tau: int, *, clamp: bool) -> NDArray[np.float64]:
        P, classes = self.opinion.probabilities, self.opinion.classes
        if not clamp:
            return propagate(self.graph, P, tau)
        if missing := set(self.labels.classes.tolist()) - set(classes.tolist()):
            raise InputError(f"prediction must have a column for each labelled class; {sorted(missing)} is missing")
        columns = np.searchsorted(classes, self.labels.classes)
        return propagate(self.graph, P, tau, labelled=self.labels.ids, columns=columns)


class Strategy(ABC):
    """Base of the strategies."""

    asks_classifier: ClassVar[bool] = True

    def query(self, state: QueryState, number: int = 1, *, rng: int | np.random.Generator = 0) -> NDArray[np.uint32]:
        """Return the ids of the supervoxels to label next.

        Parameters
        ----------
        state
            What is known.
        number
            How many are wanted.
        rng
            Seed or generator; the same seed and state give the same answer.

        Returns
        -------
        (m,) uint32, the best first, each once, candidates without a label only. m is `number`, or less if there are no
        more of them.

        Raises
        ------
        InputError
            If `number` is below 1, or the strategy needs something that the state does not hold.
        """
        if number < 1:
            raise InputError(f"number must be 1 or more, not {number}")
        number = min(number, state.open_rows.size)
        if number == 0:
            return np.empty(0, np.uint32)
        strategy = Kinds() if self.asks_classifier and state.is_cold else self
        rows = strategy._choose(state, number, np.random.default_rng(rng))
        return (rows + 1).astype(np.uint32)

    def worth(self, state: QueryState, *, rng: int | np.random.Generator = 0) -> NDArray[np.float32]:
        """Return what a label of each supervoxel is worth (n,), 0 or more: what slices and planes add up.

        As long as the classifier knows too little to be asked, the first supervoxel that `Kinds` would ask for is worth
        1, the next ones less and less, those after the fiftieth nothing.
        """
        strategy = Kinds() if self.asks_classifier and state.is_cold else self
        return strategy._worth(state, np.random.default_rng(rng))

    @abstractmethod
    def _choose(self, state: QueryState, number: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return `number` of the state's open rows, best first; there are as many."""

    @abstractmethod
    def _worth(self, state: QueryState, rng: np.random.Generator) -> NDArray[np.float32]:
        """Return the worth of each supervoxel (n,) where the classifier can be asked, if it is asked."""


@dataclass(frozen=True)
class Random(Strategy):
    """Any supervoxel, with equal probability."""

    asks_classifier: ClassVar[bool] = False

    def _choose(self, state: QueryState, number: int, rng: np.random.Generator) -> NDArray[np.int64]:
        return rng.choice(state.open_rows, number, replace=False)

    def _worth(self, state: QueryState, rng: np.random.Generator) -> NDArray[np.float32]:
        return rng.random(state.n, np.float32)


@dataclass(frozen=True)
class TypiClust(Strategy):
    """Typical supervoxels of kinds without a label (Hacohen et al., ICML 2022): a start from nothing."""

    asks_classifier: ClassVar[bool] = False

    def _choose(self, state: QueryState, number: int, rng: np.random.Generator) -> NDArray[np.int64]:
        return typical_rows(state.features, state.open_rows, state.labelled_rows, number=number, rng=rng)

    def _worth(self, state: QueryState, rng: np.random.Generator) -> NDArray[np.float32]:
        worth = np.zeros(state.n, np.float32)
        if state.open_rows.size:
            worth[self._choose(state, min(_N_TYPICAL, state.open_rows.size), rng)] = 1
        return worth


@dataclass(frozen=True)
class Kinds(Strategy):
    """Typical supervoxels of kinds that look least like what is labelled, see `different_rows`: a start from nothing.

    It comes upon rare classes sooner than `TypiClust`: docs/decisions/0024.
    """

    asks_classifier: ClassVar[bool] = False

    def _choose(self, state: QueryState, number: int, rng: np.random.Generator) -> NDArray[np.int64]:
        return different_rows(state.features, state.open_rows, state.labelled_rows, number=number, rng=rng)

    def _worth(self, state: QueryState, rng: np.random.Generator) -> NDArray[np.float32]:
        worth = np.zeros(state.n, np.float32)
        if number := min(_N_TYPICAL, state.open_rows.size):
            worth[self._choose(state, number, rng)] = np.linspace(1, 0, number, endpoint=False)
        return worth


class ScoreStrategy(Strategy):
    """The supervoxels with the highest scores; among equal ones the lower id first."""

    @abstractmethod
    def score(self, state: QueryState) -> NDArray[np.float32]:
        """Return the score of each supervoxel (n,), 0 or more."""

    def _choose(self, state: QueryState, number: int, rng: np.random.Generator) -> NDArray[np.int64]:  # noqa: ARG002
        return _highest(self.score(state), state.open_rows, number)

    def _worth(self, state: QueryState, rng: np.random.Generator) -> NDArray[np.float32]:  # noqa: ARG002
        return self.score(state)


@dataclass(frozen=True)
class FeatureUncertainty(ScoreStrategy):
    """Where the classifier is unsure, by any measure of `uncertainty`."""

    kind: UncertaintyKind = "total_entropy"

    def score(self, state: QueryState) -> NDArray[np.float32]:
        """Return the uncertainty of each supervoxel (n,)."""
        return uncertainty(state.opinion.probabilities, self.kind)


@dataclass(frozen=True)
class GeometricUncertainty(ScoreStrategy):
    """Where the neighbourhood is unsure (Konyushkova et al., ICCV 2015): see `geometric_uncertainty`."""

    kind: UncertaintyKind = "total_entropy"
    tau: int = 4
    clamp: bool = False

    def __post_init__(self) -> None:
        _check_tau(self.tau)

    def score(self, state: QueryState) -> NDArray[np.float32]:
        """Return the geometric uncertainty of each supervoxel (n,)."""
        return geometric_uncertainty(state.propagated(self.tau, clamp=self.clamp), self.kind)


@dataclass(frozen=True)
class CombinedUncertainty(ScoreStrategy):
    """Where the classifier or the neighbourhood is unsure (Konyushkova et al., 2015): see `combined_uncertainty`."""

    kind: UncertaintyKind = "total_entropy"
    tau: int = 4
    weight: float = 1.0
    clamp: bool = False

    def __post_init__(self) -> None:
        _check_tau(self.tau)
        if not (np.isfinite(self.weight) and self.weight >= 0):
            raise InputError(f"weight must be 0 or more, not {self.weight}")

    def score(self, state: QueryState) -> NDArray[np.float32]:
        """Return the combined uncertainty of each supervoxel (n,)."""
        Q = state.propagated(self.tau, clamp=self.clamp)
        return combined_uncertainty(state.opinion.probabilities, Q, self.kind, weight=self.weight)


@dataclass(frozen=True)
class TreeDisagreement(ScoreStrategy):
    """Where the trees of the forest contradict each other (BALD): see `Forest.disagreement`."""

    def score(self, state: QueryState) -> NDArray[np.float32]:
        """Return the disagreement about each supervoxel (n,)."""
        if state.forest is None:
            raise InputError("forest is missing: tree disagreement has to ask the trees")
        return state.forest.disagreement(state.features)


@dataclass(frozen=True)
class PowerNoise(Strategy):
    """Supervoxels drawn without replacement in proportion to ``score^beta``, instead of the very highest.

    Power acquisition (Kirsch et al., arXiv 2106.12059, 2021): the top of ``log score + Gumbel(0, 1 / beta)``, which
    keeps one round from asking for the same thing many times. That the Gumbel top-k is such a draw: Kool, van Hoof,
    Welling, ICML 2019.
    """

    base: ScoreStrategy = field(default_factory=FeatureUncertainty)
    beta: float = 1.0

    def __post_init__(self) -> None:
        _check_beta(self.beta)

    def _choose(self, state: QueryState, number: int, rng: np.random.Generator) -> NDArray[np.int64]:
        return _highest(_power_noise(self.base.score(state), self.beta, rng), state.open_rows, number)

    def _worth(self, state: QueryState, rng: np.random.Generator) -> NDArray[np.float32]:  # noqa: ARG002
        return self.base.score(state) ** self.beta  # a sum over many needs no noise to keep from asking for the same


@dataclass(frozen=True)
class ClassStratified(Strategy):
    """Two thirds of the queries go to the predicted foreground classes in turn, the rest anywhere.

    ClaSP PE (Lüth et al., arXiv 2601.13677, 2026): a query for class c has the score ``P_c H(P)``, the others ``H(P)``,
    with power noise whose beta grows geometrically from 1 to 100 over the labelling, so that it explores first and
    exploits later. `background` is the id of the class that is no foreground.
    """

    background: int = 1

    def _choose(self, state: QueryState, number: int, rng: np.random.Generator) -> NDArray[np.int64]:
        P, classes, rows = state.opinion.probabilities, state.opinion.classes, state.open_rows
        beta = 100.0**state.progress
        entropy = uncertainty(P)
        predicted = np.unique(P[rows].argmax(axis=1))
        foreground = [int(c) for c in predicted if classes[c] != self.background]
        rankings = [_power_noise(P[:, c] * entropy, beta, rng) for c in foreground]
        anywhere = _power_noise(entropy, beta, rng)
        # Starting anywhere in the cycle keeps the shares right when one supervoxel at a time is asked for.
        third, turn = int(rng.integers(3)), int(rng.integers(max(1, len(foreground))))
        is_open = np.zeros(state.n, bool)
        is_open[rows] = True
        chosen = np.empty(number, np.int64)
        for i in range(number):
            scores = anywhere
            if rankings and (i + third) % 3 < 2:
                scores = rankings[turn % len(rankings)]
                turn += 1
            chosen[i] = np.where(is_open, scores, -np.inf).argmax()
            is_open[chosen[i]] = False
        return chosen

    def _worth(self, state: QueryState, rng: np.random.Generator) -> NDArray[np.float32]:  # noqa: ARG002
        P, classes = state.opinion.probabilities, state.opinion.classes
        foreground = P[:, classes != self.background].sum(axis=1)
        worth: NDArray[np.float32] = uncertainty(P) * (1 + 2 * foreground) / 3
        return worth


@dataclass(frozen=True)
class Diverse(Strategy):
    """High scores that lie apart in the image, or look different: see `diverse_queue`.

    With `apart` "place" the discount has a radius of 15 voxels of the finest axis; with "features", of a quarter of the
    distance that two supervoxels have on average (root mean square of the principal components). `radius` scales it.
    """

    base: ScoreStrategy = field(default_factory=FeatureUncertainty)
    apart: Literal["place", "features"] = "place"
    radius: float = 1.0

    def __post_init__(self) -> None:
        if self.apart not in ("place", "features"):
            raise InputError(f"apart must be 'place' or 'features', not {self.apart!r}")
        if not (np.isfinite(self.radius) and self.radius > 0):
            raise InputError(f"radius must be positive, not {self.radius}")

    def _choose(self, state: QueryState, number: int, rng: np.random.Generator) -> NDArray[np.int64]:  # noqa: ARG002
        rows = state.open_rows
        if self.apart == "place":
            points, unit = state.centers * relative_spacing(state.spacing), 15.0
        else:
            points, unit = embed(state.features), 0.25
        scores = self.base.score(state)
        queue = diverse_queue(scores[rows], points[rows], number=number, radius=unit * self.radius)
        return rows[queue.astype(np.int64) - 1]

    def _worth(self, state: QueryState, rng: np.random.Generator) -> NDArray[np.float32]:  # noqa: ARG002
        return self.base.score(state)


@dataclass(frozen=True)
class Mixed(Strategy):
    """Half of the queries where the classifier or the neighbourhood is unsure, the others at random.

    Labels that were chosen for being uncertain are no fair sample: they say where a border lies, and little of how a
    class varies. So a query is drawn by a mixture: with one half in proportion to ``score^beta``, as by `PowerNoise`,
    with the other anywhere in each predicted class with equal probability, which is what `ForegroundAwareRandom` does
    with the truth. A label is worth the probability that it is the next one asked for.
    """

    base: ScoreStrategy = field(default_factory=CombinedUncertainty)
    beta: float = 3.0

    def __post_init__(self) -> None:
        _check_beta(self.beta)

    def _choose(self, state: QueryState, number: int, rng: np.random.Generator) -> NDArray[np.int64]:
        return _highest(_power_noise(self._worth(state, rng), 1, rng), state.open_rows, number)

    def _worth(self, state: QueryState, rng: np.random.Generator) -> NDArray[np.float32]:  # noqa: ARG002
        rows = state.open_rows
        unsure = self.base.score(state)[rows].astype(np.float64) ** self.beta
        predicted = state.opinion.probabilities[rows].argmax(axis=1)
        n_predicted = np.bincount(predicted, minlength=1)
        shares = 0.5 / (np.count_nonzero(n_predicted) * n_predicted[predicted])
        if total := unsure.sum():
            shares += 0.5 * unsure / total
        worth = np.zeros(state.n, np.float32)
        worth[rows] = shares
        return worth


@dataclass(frozen=True, eq=False)
class ForegroundAwareRandom(Strategy):
    """Random, but mostly from the true foreground: for benchmarks only, since it has to know the truth.

    The baseline that is hard to beat (nnActive, arXiv 2511.19183, 2025). A query is for a foreground class with
    probability `foreground_share`, each class that is left being as likely, and for any supervoxel otherwise. `truth`
    (n,) is the class of each supervoxel, `background` the one that is no foreground.
    """

    asks_classifier: ClassVar[bool] = False

    truth: NDArray[np.integer]
    foreground_share: float = 2 / 3
    background: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.foreground_share <= 1:
            raise InputError(f"foreground_share must be 0 to 1, not {self.foreground_share}")

    def _choose(self, state: QueryState, number: int, rng: np.random.Generator) -> NDArray[np.int64]:
        if self.truth.shape != (state.n,):
            raise InputError(f"truth has shape {self.truth.shape} for {state.n} supervoxels")
        pool = state.open_rows
        chosen = np.empty(number, np.int64)
        for i, from_foreground in enumerate(rng.random(number) < self.foreground_share):
            classes = self.truth[pool]
            foreground = np.unique(classes[classes != self.background])
            wanted = foreground.size > 0 and from_foreground
            chosen[i] = rng.choice(pool[classes == rng.choice(foreground)] if wanted else pool)
            pool = pool[pool != chosen[i]]
        return chosen

    def _worth(self, state: QueryState, rng: np.random.Generator) -> NDArray[np.float32]:
        weight = np.where(self.truth == self.background, 1 - self.foreground_share, self.foreground_share)
        return (weight * rng.random(state.n)).astype(np.float32)


STRATEGIES: Mapping[str, type[Strategy]] = {
    "random": Random,
    "typiclust": TypiClust,
    "kinds": Kinds,
    "feature": FeatureUncertainty,
    "geometric": GeometricUncertainty,
    "combined": CombinedUncertainty,
    "bald": TreeDisagreement,
    "power": PowerNoise,
    "clasp": ClassStratified,
    "diverse": Diverse,
    "mixed": Mixed,
}


def strategy_of(spec: QuerySpec) -> Strategy:
    """Return the strategy that a spec describes."""
    options: dict[str, Any] = {"kind": spec.uncertainty, "tau": spec.tau, "weight": spec.weight}
    if spec.strategy in ("power", "diverse"):
        options = {"base": FeatureUncertainty(spec.uncertainty)}
    if spec.strategy == "mixed":
        options = {"base": CombinedUncertainty(spec.uncertainty, spec.tau, spec.weight)}
    known = {option.name for option in fields(STRATEGIES[spec.strategy])}  # type: ignore[arg-type]  # all are dataclasses
    return make_strategy(spec.strategy, **{name: value for name, value in options.items() if name in known})


def make_strategy(name: str, **options: Any) -> Strategy:
    """Return a strategy by name, with the options that its class documents.

    Raises
    ------
    InputError
        If there is no strategy of that name, or it has no such option.
    """
    if name not in STRATEGIES:
        raise InputError(f"strategy is {name!r}; expected one of {', '.join(STRATEGIES)}")
    known = [option.name for option in fields(STRATEGIES[name])]  # type: ignore[arg-type]  # all are dataclasses
    if unknown := options.keys() - set(known):
        raise InputError(f"strategy {name!r} has no option {min(unknown)!r}; it has {', '.join(known) or 'none'}")
    return STRATEGIES[name](**options)


def _highest(scores: NDArray[np.floating], rows: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    return rows[np.argsort(-scores[rows], kind="stable")[:number]]


def _power_noise(scores: NDArray[np.floating], beta: float, rng: np.random.Generator) -> NDArray[np.float64]:
    noisy: NDArray[np.float64] = np.log(np.maximum(scores, _TINY)) + rng.gumbel(0, 1 / beta, len(scores))
    return noisy


def _check_beta(beta: float) -> None:
    if not (np.isfinite(beta) and beta > 0):
        raise InputError(f"beta must be positive, not {beta}")


def _check_tau(tau: int) -> None:
    if not 0 <= tau <= MAX_TAU:
        raise InputError(f"tau must be 0 to {MAX_TAU}, not {tau}")
