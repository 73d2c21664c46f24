"""Correcting the classifier for labels whose class shares are not those of the volume.

Saerens, Latinne, Decaestecker, *Adjusting the outputs of a classifier to new a priori probabilities: a simple
procedure*, Neural Computation 14, 2002.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxloop.errors import InputError

_TOLERANCE = 1e-7
_MAX_STEPS = 1000


def estimate_priors(probabilities: ArrayLike, trained: ArrayLike) -> NDArray[np.float64]:
    """Return the class shares under which `probabilities` are most likely, by expectation maximisation.

    Parameters
    ----------
    probabilities
        (n, c) of all supervoxels, rows sum to 1.
    trained
        (c,) class shares that the classifier was trained with: those of the labels, or equal ones if it balances the
        classes. They may sum to anything. 0 for a class without labels, whose probability has to be 0 everywhere.

    Returns
    -------
    (c,) float64, sums to 1. The likelihood is concave, so no step leads astray; they end when no share moves by more
    than 1e-7, or after 1000. Without supervoxels it is `trained`.

    Raises
    ------
    InputError
        If shapes don't fit, a number is negative or not finite, or a class has probability but no share.
    """
    P, before = _checked(probabilities, trained)
    known = before > 0
    evidence, start = P[:, known], before[known]
    shares = start
    for _ in range(_MAX_STEPS if len(P) else 0):
        ratio = shares / start
        following = ratio * (evidence.T @ (1 / (evidence @ ratio))) / len(P)
        moved = np.abs(following - shares).max()
        shares = following
        if moved <= _TOLERANCE:
            break
    priors = np.zeros(known.size)
    priors[known] = shares / shares.sum()
    return priors


def correct_priors(probabilities: ArrayLike, trained: ArrayLike, priors: ArrayLike) -> NDArray[np.float32]:
    """Return the probabilities of a classifier trained with other class shares: ``p_c priors_c / trained_c``, scaled.

    Parameters
    ----------
    probabilities
        (n, c), rows sum to 1.
    trained
        (c,) class shares that the classifier was trained with, as in `estimate_priors`.
    priors
        (c,) class shares of the volume, such as `estimate_priors` returns; they may sum to anything.

    Returns
    -------
    (n, c) float32, rows sum to 1. A row whose classes all have prior 0 stays as it is.

    Raises
    ------
    InputError
        If shapes don't fit, a number is negative or not finite, or a class has probability but no share in `trained`.
    """
    P, before = _checked(probabilities, trained)
    wanted = _checked_shares(priors, before.size, "priors")
    ratio = np.divide(wanted, before, out=np.zeros_like(wanted), where=before > 0)
    corrected = P * ratio
    totals = corrected.sum(axis=1, keepdims=True)
    scaled: NDArray[np.float64] = np.divide(corrected, totals, out=P, where=totals > 0)
    return scaled.astype(np.float32)


def _checked(probabilities: ArrayLike, trained: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    P = np.array(probabilities, np.float64)
    if P.ndim != 2 or P.shape[1] == 0:
        raise InputError(f"probabilities has shape {P.shape}; expected (n, c)")
    if P.size and not (P.min() >= 0 and np.abs(P.sum(axis=1) - 1).max() < 1e-3):
        raise InputError("probabilities must not be negative and its rows must sum to 1")
    shares = _checked_shares(trained, P.shape[1], "trained")
    if P[:, shares == 0].any():
        column = np.flatnonzero((shares == 0) & P.any(axis=0))[0]
        raise InputError(f"trained is 0 for column {column}, which has probability: the classifier knows that class")
    return P, shares


def _checked_shares(shares: ArrayLike, n_classes: int, name: str) -> NDArray[np.float64]:
    values = np.asarray(shares, np.float64)
    if values.shape != (n_classes,) or not (np.isfinite(values).all() and (values >= 0).all() and values.any()):
        raise InputError(f"{name} must be {n_classes} numbers, none negative and not all 0")
    total: float = values.sum()
    return values / total
