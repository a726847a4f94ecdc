"""Does a confidence of 0.9 mean right in nine of ten? Measured, and mended by a temperature per head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

BINS: Final = 15
MIN_FIT: Final = 30  # labels below which a temperature would be of chance
COLDEST, HOTTEST = 0.05, 20.0
FLOAT32_STEP: Final = 6e-8  # a sigmoid nearer to 1 than this is 1
LEAST_PROBABILITY: Final = 1e-30  # float32 softmax underflows; its logarithm shall not


@dataclass(frozen=True)
class Bin:
    """Answers of one range of confidence."""

    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """Measured on one half of the set; the temperature is fitted on the other.

    temperature: by which the model's logits are still to be divided, on top of the one it has; None where too few
    labels are there. ece: expected calibration error of the model as it is; ece_after: with the temperature.
    """

    name: str
    fitted_on: int
    measured_on: int
    temperature: float | None
    ece: float
    ece_after: float | None
    bins: list[Bin]
    bins_after: list[Bin]


def calibrate(name: str, probabilities: Floats, labels: Ints) -> Calibration | None:
    """Fit on every other labelled sample, measure on the rest. Shapes as in `fit_temperature`. None without labels."""
    known = labels >= 0
    if int(known.sum()) < 2:
        return None
    given, truth = probabilities[known], labels[known]
    fit, rest = slice(0, None, 2), slice(1, None, 2)
    enough = len(truth[fit]) >= MIN_FIT
    temperature = fit_temperature(given[fit], truth[fit]) if enough else None
    before = reliability(*_judged(given[rest], truth[rest]))
    cooled = given[rest] if temperature is None else heated(given[rest], temperature)
    after = reliability(*_judged(cooled, truth[rest]))
    return Calibration(
        name=name,
        fitted_on=len(truth[fit]),
        measured_on=len(truth[rest]),
        temperature=temperature,
        ece=expected_error(before),
        ece_after=expected_error(after) if enough else None,
        bins=before,
        bins_after=after if enough else [],
    )


def fit_temperature(probabilities: Floats, labels: Ints) -> float:
    """Return the temperature that makes the labels most likely (Guo et al. 2017), within COLDEST..HOTTEST.

    probabilities: [N, K]; labels: int64 [N], all known. The likelihood is concave in 1 / temperature, so the root of
    its slope is found by bisection.
    """
    logits = np.log(np.maximum(probabilities, LEAST_PROBABILITY)).astype(np.float64)
    at_label = logits[np.arange(len(labels)), labels]
    cold, hot = 1 / COLDEST, 1 / HOTTEST
    for _ in range(50):
        inverse = (cold * hot) ** 0.5
        expected = (_softmax(logits * inverse) * logits).sum(axis=1)
        if float((expected - at_label).mean()) < 0:  # still too doubtful
            hot = inverse
        else:
            cold = inverse
    return float(1 / (cold * hot) ** 0.5)


def heated(probabilities: Floats, temperature: float) -> Floats:
    """Return probabilities [N, K] as they are once their logits are divided by a temperature."""
    return _softmax(np.log(np.maximum(probabilities, LEAST_PROBABILITY)).astype(np.float64) / temperature)


def reliability(confidence: Floats, right: Bools) -> list[Bin]:
    """Return BINS bins of equal width over 0..1. confidence, right: [N]."""
    place = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(place, minlength=BINS)
    whole = np.maximum(counts, 1)
    mean = np.bincount(place, weights=confidence, minlength=BINS) / whole
    share = np.bincount(place, weights=right.astype(float), minlength=BINS) / whole
    return [Bin(int(n), float(c), float(a)) for n, c, a in zip(counts, mean, share, strict=True)]


def expected_error(bins: list[Bin]) -> float:
    """Return the expected calibration error: the mean distance of confidence and accuracy, weighted by count."""
    total = sum(item.count for item in bins)
    return sum(item.count * abs(item.confidence - item.accuracy) for item in bins) / max(1, total)


def two_classes(probability: Floats) -> Floats:
    """Return [N, 2] of the probability [N] of yes, so that a yes-or-no head is calibrated like all others."""
    yes = np.clip(probability.astype(np.float64), FLOAT32_STEP, 1 - FLOAT32_STEP)
    return np.stack((1 - yes, yes), axis=1)


def _judged(probabilities: Floats, labels: Ints) -> tuple[Floats, Bools]:
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == labels


def _softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
