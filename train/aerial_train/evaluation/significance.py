"""What counts of a sample allow to say: intervals, tests and correlations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[Any]

Z95 = 1.959964  # of the two-sided 95 % interval
RESAMPLES: Final = 2000  # then the ends of an interval are right to a fiftieth of its width


def wilson(right: int, total: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927); (0, 1) where nothing was counted."""
    if total == 0:
        return 0.0, 1.0
    share, z2 = right / total, Z95 * Z95 / total
    centre = share + z2 / 2
    reach = math.sqrt(z2 * (share * (1 - share) + z2 / 4))
    return max(0.0, (centre - reach) / (1 + z2)), min(1.0, (centre + reach) / (1 + z2))


def bootstrap(
    groups: Sequence[Numbers], statistic: Callable[[Sequence[Numbers]], float], *, noise_raises: bool = False
) -> tuple[float, float]:
    """Return the 95 % interval of a statistic >= 0 of groups (bootstrap, Efron 1979); the same at every call.

    groups: each [N, ...] with N >= 1, drawn again from itself, so that its size stays. (0, 1) where there is no group.
    noise_raises: of a calibration error, which is higher in nearly every draw than in what is drawn from: the interval
    is moved back by how much higher on average.
    """
    if not groups:
        return 0.0, 1.0
    rng = np.random.default_rng(0)
    drawn = [
        statistic([group[rng.integers(len(group), size=len(group))] for group in groups]) for _ in range(RESAMPLES)
    ]
    raised = float(np.mean(drawn)) - statistic(groups) if noise_raises else 0.0
    low, high = np.quantile(drawn, (0.025, 0.975)) - raised
    return max(0.0, float(low)), float(high)


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the exact two-sided p-value of McNemar's test: how likely that two models of the same worth differ so.

    only_first, only_second: samples that one alone has right. Both tails of a binomial of p = 1/2.
    """
    n, k = only_first + only_second, min(only_first, only_second)
    tail = ways = 1
    for i in range(1, k + 1):  # each from the one before: anew each costs as much as all before it
        ways = ways * (n - i + 1) // i
        tail += ways
    return float(min(1.0, 2 * tail / 2**n))


def correlation(x: Numbers, y: Numbers) -> float | None:
    """Return Pearson's coefficient, None where one of both does not vary or fewer than three pairs are there."""
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(np.corrcoef(x, y)[0, 1])


def rank_correlation(x: Numbers, y: Numbers) -> float | None:
    """Return Spearman's coefficient; equal values share their mean rank."""
    return correlation(_ranks(x), _ranks(y))


def auroc(scores: Numbers, positive: Numbers) -> float | None:
    """Return the area under the ROC curve: how often a positive scores above a negative, ties counting half.

    scores: [N]; positive: bool [N]. None where one of both kinds is missing.
    """
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if positives == 0 or negatives == 0:
        return None
    above = _ranks(scores)[positive].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))


def _ranks(values: Numbers) -> Numbers:
    """Return ranks from 1, float64 [N]; equal values share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray(last - (counts - 1) / 2)[inverse]
