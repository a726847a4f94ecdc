"""How many of the wrong letters nobody could have read: letters by their height in the crop, and by their paint."""

from __future__ import annotations

from typing import Final

import numpy as np

from aerial_train.evaluation.gather import CropOutcomes
from aerial_train.evaluation.tables import Table, percent, span

HEAD: Final = "letter"
EDGES_PX: Final = (1, 6, 8, 10, 12)  # lower edges of the ranges of heights
READABLE_PX, READABLE_LEVELS = 8, 40  # under either, few of us can read a letter on a screen


def legibility_table(outcomes: CropOutcomes) -> Table | None:
    """Return wrong letters by the height of the letter, and how many are too small or too faint.

    None for label spaces without a head `letter` and for data whose letters nobody drew.
    """
    if outcomes.letters is None or HEAD not in outcomes.labels:
        return None
    labels, height, levels = outcomes.labels[HEAD], *outcomes.letters.T
    drawn = (labels >= 0) & (height > 0)
    if not drawn.any():
        return None
    wrong = drawn & (outcomes.probabilities[HEAD].argmax(axis=1) != labels)
    rows = []
    for low, upto in zip(EDGES_PX, (*EDGES_PX[1:], None), strict=True):
        here = drawn & (height >= low) & (height < (upto or np.inf))
        if here.any():
            rows.append((span(low, upto), str(here.sum()), str((wrong & here).sum()),
                         percent((wrong & here).sum() / here.sum())))  # fmt: skip
    hard = drawn & ((height < READABLE_PX) | (levels < READABLE_LEVELS))
    note = (
        f"under {READABLE_PX} px, or less than {READABLE_LEVELS} levels from the board (three channels added): "
        f"{hard.sum()} of {drawn.sum()} letters ({percent(hard.sum() / drawn.sum())} %), "
        f"{(wrong & hard).sum()} of {wrong.sum()} wrong ones ({percent((wrong & hard).sum() / max(1, wrong.sum()))} %)"
    )
    return Table("Wrong letters by their height in the crop", ("px", "letters", "wrong", "wrong, %"), rows, [note])
