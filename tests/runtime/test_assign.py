"""The assignment against every other one there is."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from aerial_runtime.assign import assign

LIMIT = 6.0


@pytest.mark.parametrize("seed", range(60))
def test_no_other_assignment_costs_less(seed):
    rng = np.random.default_rng(seed)
    rows, columns = int(rng.integers(1, 5)), int(rng.integers(0, 5))
    cost = rng.uniform(0, 10, (rows, columns))
    pairs = assign(cost, LIMIT)
    assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs)
    assert all(cost[pair] <= LIMIT for pair in pairs)
    table = np.hstack([cost, np.full((rows, rows), LIMIT)])
    least = min(sum(table[range(rows), list(p)]) for p in itertools.permutations(range(columns + rows), rows))
    assert sum(cost[pair] for pair in pairs) + LIMIT * (rows - len(pairs)) == pytest.approx(least)


def test_nothing_to_assign():
    assert assign(np.zeros((0, 3)), LIMIT) == []
    assert assign(np.zeros((3, 0)), LIMIT) == []
