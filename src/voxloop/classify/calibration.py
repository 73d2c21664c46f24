"""Probabilities that mean what they say, from the opinions of labels by trees that did not see them.

The scores that a forest gives to what it learned from say nothing about its scores elsewhere; those of labels that were
held out do. Konyushkova, Sznitman, Fua (ICCV 2015) move the threshold of a binary classifier by such scores; scaling
and shifting the logarithms (Platt 1999 for two classes, "vector scaling" with one scale in Guo, Pleiss, Sun,
Weinberger, ICML 2017, for more) does that for any number of classes. docs/decisions/0012 says why. People label as much
of a rare class as of a common one; where what they labelled may be a fair sample of each, the classes' shares of the
volume are followed as well (as priors are in Saerens, Latinne, Decaestecker, Neural Computation 14, 2002).
docs/decisions/0036.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize

from voxloop.errors import FormatError, InputError

# Few held-out labels must not bend the probabilities: the prior weighs as much as so many of them.
PRIOR_LABELS = 20.0
# Much fewer labels of a class than this say nothing of its share in the volume. docs/decisions/0034.
FEW = 5000.0
# Below so many held-out labels of a class nothing is known of its scores.
MIN_LABELS = 3
# A leaf of one label says 0 or 1: no evidence is that strong.
_FLOOR = 2e-3
_SCALES = (0.2, 5.0)
_PRECISELY = {"maxfun": 2000, "ftol": 1e-12, "gtol": 1e-8}
# Labels of which the forests are no more unsure than of the volume may be a fair sample of their classes; labels that
# are so many times as hard were chosen because they are.
_FAIR, _CHOSEN = 1.0, 1.5
# Voxels from label to label, were they spread evenly. Filters see some 30 around them. Where more lie between, much of
# the volume is like none of what was labelled, and part of that is taken for a rare class.
_COVERED, _SPARSE = 30.0, 50.0
_LEAST_SHARE = 1e-3


@dataclass(frozen=True)
class Calibration:
    """Probabilities ``softmax(scale * log p + offsets + shift)``.

    Attributes
    ----------
    scale
        Below 1 makes probabilities less sure, above 1 more.
    offsets
        (k,) float64, sum to 0: what held-out labels say of the thresholds between the classes.
    shift
        (k,) float64, sum to 0: what the classes' shares of the volume say of them.
    """

    scale: float
    offsets: NDArray[np.float64]
    shift: NDArray[np.float64]

    @classmethod
    def none(cls, n_classes: int) -> Calibration:
        """Return the calibration that changes nothing."""
        return cls(1.0, np.zeros(n_classes), np.zeros(n_classes))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that `from_arrays` needs."""
        return {"scale": np.array(self.scale), "offsets": self.offsets, "shift": self.shift}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], n_classes: int) -> Calibration:
        """Return the calibration that arrays from a stranger hold; raises `FormatError` if they are damaged."""
        try:
            scale = float(arrays["scale"])
            offsets, shift = (np.asarray(arrays[name], np.float64) for name in ("offsets", "shift"))
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"the calibration is damaged: {error}") from None
        low, high = _SCALES
        right = offsets.shape == shift.shape == (n_classes,) and bool(np.isfinite([offsets, shift]).all())
        if not (low <= scale <= high and right):
            raise FormatError(
                f"the calibration is damaged: scale {scale}, offsets of shape {offsets.shape}, shift of {shift.shape}"
            )
        return cls(scale, offsets, shift)

    @property
    def is_none(self) -> bool:
        """Whether it changes nothing."""
        return self.scale == 1 and not self.offsets.any() and not self.shift.any()

    @property
    def unshifted(self) -> Calibration:
        """The calibration with all classes as likely as labels are."""
        return replace(self, shift=np.zeros_like(self.shift))

    def apply(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return calibrated probabilities (n, k), rows sum to 1."""
        if self.is_none:
            return probabilities
        return _softmax(self.scale * _log(probabilities) + self.offsets + self.shift).astype(np.float32)


def fit_calibration(held_out: ArrayLike, columns: ArrayLike, *, weights: ArrayLike | None = None) -> Calibration:
    """Return the calibration under which held-out labels are most likely.

    It minimises the log-loss, every class weighing the same until there are thousands of labels (`FEW`), with a
    Gaussian prior around no change that weighs as much as `PRIOR_LABELS` labels. The problem is convex.

    Parameters
    ----------
    held_out
        (m, k) probabilities of labels from trees that did not see them, rows sum to 1.
    columns
        (m,) the column that is right for each.
    weights
        (m,) positive weight of each label; 1 by default.

    Returns
    -------
    Calibration
        None of it (`Calibration.none`) if a class has fewer than `MIN_LABELS` labels.

    Raises
    ------
    InputError
        If the shapes do not fit or a column does not exist.
    """
    P, right = _checked(held_out, columns)
    k = P.shape[1]
    if np.bincount(right, minlength=k).min() < MIN_LABELS:
        return Calibration.none(k)
    share = _shares(right, weights, k)
    logs, wanted, strength = _log(P), np.eye(k)[right], PRIOR_LABELS / len(P)

    def loss(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scale, offsets = x[0], x[1:]
        change = x - start
        surprise, error = _log_loss(scale * logs + offsets, wanted, share)
        slope = np.concatenate([[(error * logs).sum()], error.sum(axis=0)]) + strength * change
        return float(surprise + strength * (change @ change) / 2), slope

    start = np.concatenate([[1.0], np.zeros(k)])
    # Not L-BFGS-B: from scipy 1.15 on it calls LAPACK for its few numbers, which wakes the threads of OpenBLAS
    # (scipy/scipy#22438). After a millisecond of work they spin for a tenth of a second, beside what comes next.
    bounds = [_SCALES] + [(None, None)] * k
    best = minimize(loss, start, jac=True, method="TNC", bounds=bounds, options=_PRECISELY).x
    return Calibration(float(best[0]), best[1:] - best[1:].mean(), np.zeros(k))


def follow_shares(
    calibration: Calibration,
    probabilities: ArrayLike,
    held_out: ArrayLike,
    columns: ArrayLike,
    *,
    spacing: float,
    weights: ArrayLike | None = None,
) -> Calibration:
    """Return the calibration shifted towards the shares that the classes seem to have in the volume.

    By log(v / l), v a class's share of all and l of the labels, times the `fairness` of the labels. As far as they are
    few for the volume: fully from a spacing of 50 voxels on, not at all below 30. And by m / (m + `PRIOR_LABELS`), m
    the labels of the rarest class.

    Parameters
    ----------
    calibration
        Of k classes.
    probabilities
        (n, k) of supervoxels, labelled or not, before they are calibrated.
    held_out, columns, weights
        As in `fit_calibration`.
    spacing
        Voxels of the finest axis that would lie between neighbouring labels, were they spread evenly.

    Returns
    -------
    Calibration
        The same if a class has fewer than `MIN_LABELS` labels.

    Raises
    ------
    InputError
        If the shapes do not fit.
    """
    P, k = np.asarray(probabilities), calibration.offsets.size
    if P.ndim != 2 or P.shape[1] != k:
        raise InputError(f"probabilities has shape {P.shape}; expected (n, {k})")
    known, right = _checked(held_out, columns)
    rarest = int(np.bincount(right, minlength=k).min())
    if len(P) == 0 or rarest < MIN_LABELS:
        return calibration
    of_volume = np.maximum(calibration.apply(P).mean(axis=0, dtype=np.float64), _LEAST_SHARE)
    of_labels = np.bincount(right, weights, minlength=k) / np.bincount(right, weights).sum()
    shift = np.log(of_volume / of_labels)
    shift *= fairness(known, P) * _sparseness(spacing) * rarest / (rarest + PRIOR_LABELS)
    return replace(calibration, shift=shift - shift.mean())


def fairness(of_labels: NDArray[np.floating[Any]], of_all: NDArray[np.floating[Any]]) -> float:
    """Return how far labels can be a fair sample of each class, rather than what was asked because it is hard.

    1 if the mean entropy of what is said of them is no more than that of all, 0 from half as much again on.

    Parameters
    ----------
    of_labels
        (m, k) probabilities of labels that were held out.
    of_all
        (n, k) of supervoxels, labelled or not.
    """
    entropy = float(_entropy(of_all).mean())
    harder = float(_entropy(of_labels).mean()) / entropy if entropy else _CHOSEN
    return float(np.clip((_CHOSEN - harder) / (_CHOSEN - _FAIR), 0, 1))


def _sparseness(spacing: float) -> float:
    """Return 0 where labels cover the volume, 1 where each stands for much that was not labelled."""
    return float(np.clip((spacing - _COVERED) / (_SPARSE - _COVERED), 0, 1))


def _entropy(P: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    entropy: NDArray[np.floating[Any]] = -(P * np.log(np.maximum(P, _FLOOR))).sum(axis=1)
    return entropy


def _checked(held_out: ArrayLike, columns: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.integer]]:
    P, right = np.asarray(held_out, np.float64), np.asarray(columns)
    if P.ndim != 2 or right.shape != (len(P),) or (right.size and not 0 <= right.min() <= right.max() < P.shape[1]):
        raise InputError(f"held_out has shape {P.shape} and columns {right.shape}; expected (m, k) and (m,) below k")
    return P, right


def _shares(columns: NDArray[np.integer], weights: ArrayLike | None, k: int) -> NDArray[np.float64]:
    """Return what each label counts for: all labels of a class, if they weigh n, in proportion to n + `FEW`.

    So what somebody cared to paint of a class leaves the classes equal; thousands of labels, which nobody chose one by
    one, say which class is rare.
    """
    of_label = np.ones(len(columns)) if weights is None else np.asarray(weights, np.float64)
    of_class = np.bincount(columns, of_label, minlength=k)
    counts = np.where(of_class > 0, of_class + FEW, 0)
    shares: NDArray[np.float64] = of_label * (counts / np.where(of_class > 0, of_class, 1) / counts.sum())[columns]
    return shares


def _log_loss(
    scores: NDArray[np.float64], wanted: NDArray[np.float64], share: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    """Return the log-loss of labels with these scores (m, k), and its slope for each of the scores."""
    found = _softmax(scores)
    surprise = -(share * np.log(np.maximum((found * wanted).sum(axis=1), 1e-300))).sum()
    return float(surprise), share[:, np.newaxis] * (found - wanted)


def _log(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    logs: NDArray[np.float64] = np.log(np.maximum(probabilities, _FLOOR, dtype=np.float64))
    return logs


def _softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    total: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return total
