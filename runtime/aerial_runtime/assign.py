"""Which detection is which track: the assignment of least cost, no two to one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]


def assign(cost: F64, limit: float) -> list[tuple[int, int]]:
    """Return (row, column) pairs of the least sum, where a row that stays alone costs `limit`.

    cost: [rows, columns], at least 0; what costs more than the limit is never paired. The Hungarian method with
    potentials (Kuhn 1955, Munkres 1957): a nearest-first choice shifts a row of equal boards by one.
    """
    rows, columns = cost.shape
    if not rows:
        return []
    alone = np.full((rows, rows), limit)
    table = np.hstack([np.where(cost <= limit, cost, 1e9), alone])
    of_row, of_column = np.zeros(rows), np.zeros(columns + rows)
    owner = np.full(columns + rows, -1)  # the row that holds a column
    for first in range(rows):
        _augment(first, table, of_row, of_column, owner)
    return [(int(owner[column]), column) for column in range(columns) if owner[column] >= 0]


def _augment(first: int, table: F64, of_row: F64, of_column: F64, owner: npt.NDArray[np.int64]) -> None:
    """Give row `first` a column along the cheapest path of changes; keep every reduced cost at least 0."""
    count = table.shape[1]
    slack, before = np.full(count, np.inf), np.full(count, -1)
    done = np.zeros(count, bool)
    row, column = first, -1
    while True:
        reduced = table[row] - of_row[row] - of_column
        nearer = ~done & (reduced < slack)
        slack[nearer], before[nearer] = reduced[nearer], column
        column = int(np.where(done, np.inf, slack).argmin())
        step = float(slack[column])
        of_row[owner[done]] += step
        of_row[first] += step
        of_column[done] -= step
        slack[~done] -= step
        done[column] = True
        if owner[column] < 0:
            break
        row = int(owner[column])
    while column >= 0:
        previous = int(before[column])
        owner[column] = first if previous < 0 else owner[previous]
        column = previous
