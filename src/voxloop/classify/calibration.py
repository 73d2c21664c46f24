"""Probabilities that mean what they say, from the opinions of labels by trees that did not see them.

The scores that a forest gives to what it learned from say nothing about its scores elsewhere; those of labels that were
held out do. Konyushkova, Sznitman, Fua (ICCV 2015) move the threshold of a binary classifier by such scores; scaling
and shifting the logarithms (Platt 1999 for two classes, "vector scaling" with one scale in Guo, Pleiss, Sun,
Weinberger, ICML 2017, for more) does that for any number of classes. docs/decisions/0012 says why. What is not labelled
has its say as well: boundaries between classes belong where few supervoxels lie, docs/decisions/0032.
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
# How far in log-odds supervoxels count as lying at a boundary, and what the density there may move an offset by.
_NEAR = 0.4
_MAX_MOVE = 0.5
# A boundary that less than so much of all lies at, per unit of log-odds, is as good as one in a gap.
_GAP = 2e-3
# Held-out labels that are sure of themselves let a boundary move; so much does their mean log-loss count.
_LABELS = 5.0


@dataclass(frozen=True)
class Calibration:
    """Probabilities ``softmax(scale * log p + offsets)``.

    Attributes
    ----------
    scale
        Below 1 makes probabilities less sure, above 1 more.
    offsets
        (k,) float64, sum to 0: shift the thresholds between the classes.
    """

    scale: float
    offsets: NDArray[np.float64]

    @classmethod
    def none(cls, n_classes: int) -> Calibration:
        """Return the calibration that changes nothing."""
        return cls(1.0, np.zeros(n_classes))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that `from_arrays` needs."""
        return {"scale": np.array(self.scale), "offsets": self.offsets}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], n_classes: int) -> Calibration:
        """Return the calibration that arrays from a stranger hold; raises `FormatError` if they are damaged."""
        try:
            scale, offsets = float(arrays["scale"]), np.asarray(arrays["offsets"], np.float64)
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"the calibration is damaged: {error}") from None
        low, high = _SCALES
        if not (low <= scale <= high and offsets.shape == (n_classes,) and np.isfinite(offsets).all()):
            raise FormatError(f"the calibration is damaged: scale {scale}, offsets of shape {offsets.shape}")
        return cls(scale, offsets)

    @property
    def is_none(self) -> bool:
        """Whether it changes nothing."""
        return self.scale == 1 and not self.offsets.any()

    def apply(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return calibrated probabilities (n, k), rows sum to 1."""
        if self.is_none:
            return probabilities
        return _softmax(self.scale * _log(probabilities) + self.offsets).astype(np.float32)


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
    best = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[_SCALES] + [(None, None)] * k).x
    return Calibration(float(best[0]), best[1:] - best[1:].mean())


def move_to_gaps(
    calibration: Calibration,
    probabilities: ArrayLike,
    held_out: ArrayLike,
    columns: ArrayLike,
    *,
    weights: ArrayLike | None = None,
) -> Calibration:
    """Return the calibration with the boundaries between its classes moved to where few supervoxels lie.

    Labels say little about where exactly a class ends; a boundary through many supervoxels that look alike is likely to
    be in the wrong place. Low density separation (Chapelle, Zien, AISTATS 2005), of the offsets alone: from where the
    calibration has put them, m / (m + 20) log(density) + |move|^2 + 5 times the mean log-loss of held-out labels goes
    down to the nearest minimum. The density is that of the supervoxels at a margin of 0 between their two likeliest
    classes, by a Gaussian kernel of 0.4; m is the number of labels of the rarest class, for what few labels have taught
    says little of how supervoxels lie. No offset moves by more than 0.5. docs/decisions/0032 says what that is worth.

    Parameters
    ----------
    calibration
        Of k classes.
    probabilities
        (n, k) of supervoxels, labelled or not, before they are calibrated.
    held_out, columns, weights
        As in `fit_calibration`.

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
    rarest = np.bincount(right, minlength=k).min()
    if len(P) == 0 or rarest < MIN_LABELS:
        return calibration
    share, wanted = _shares(right, weights, k), np.eye(k)[right]
    of_labels = calibration.scale * _log(known) + calibration.offsets
    of_all = calibration.scale * _log(P) + calibration.offsets
    rows = np.arange(len(P))
    trust = rarest / (rarest + PRIOR_LABELS)
    height = 1 / (np.sqrt(2 * np.pi) * _NEAR * len(P))

    def loss(move: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        moved = of_all + move
        first = moved.argmax(axis=1)
        best = moved[rows, first]
        moved[rows, first] = -np.inf
        second = moved.argmax(axis=1)
        margin = (best - moved[rows, second]) / _NEAR
        kernel = height * np.exp(-(margin**2) / 2)
        density = kernel.sum() + _GAP
        pull = kernel * margin / _NEAR
        slope = trust * (np.bincount(second, pull, k) - np.bincount(first, pull, k)) / density + 2 * move
        surprise, error = _log_loss(of_labels + move, wanted, share)
        return float(trust * np.log(density) + move @ move + _LABELS * surprise), slope + _LABELS * error.sum(axis=0)

    move = minimize(loss, np.zeros(k), jac=True, method="L-BFGS-B", bounds=[(-_MAX_MOVE, _MAX_MOVE)] * k).x
    return replace(calibration, offsets=calibration.offsets + move - move.mean())


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
