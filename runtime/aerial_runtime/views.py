"""What a classifier says of crops, averaged over quarter turns: seen from above, nothing stands upright.

A network that was trained on every direction still errs differently in each, and a turn by 90 degrees loses no pixel.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from aerial_runtime.backends import Backend
from aerial_runtime.backends.base import Array
from aerial_runtime.contract import U8

# Confidence of `target` from which a crop is looked at again. Far under any threshold: what is rejected at the first
# look would not pass the others, and in flight most candidates are.
AGAIN_FROM: Final = 0.1
LEAST: Final = 1e-7  # probability below which float32 tells nothing apart


def answers(backend: Backend, crops: U8) -> dict[str, Array]:
    """Return output name -> float32 [N, K], as the graph contract has it, averaged over the views of the card.

    crops: uint8 [N, S, S, 3], N at least 1. Probabilities are averaged as their logarithms are, and then add up to 1
    again: the same as averaging the logits, so that a temperature means what it meant. Headings are turned back and
    averaged as vectors; one that changes from view to view becomes short, which is its confidence. Raises ModelError.
    """
    outputs, views = backend.infer(crops), backend.card.views
    again = np.flatnonzero(outputs["target"][:, 0] >= AGAIN_FROM)
    if views == 1 or not len(again):
        return outputs
    outputs = {name: array.copy() for name, array in outputs.items()}  # they are valid until the next call
    turned = np.concatenate([np.rot90(crops[again], turn, axes=(1, 2)) for turn in range(1, views)])
    for name, later in backend.infer(turned).items():
        seen = np.concatenate((outputs[name][again], later)).reshape(views, len(again), -1)
        outputs[name][again] = _mean_heading(seen) if name == "heading" else _mean_probability(seen)
    return outputs


def _mean_probability(seen: Array) -> Array:
    """Return the normalised geometric mean [N, K] of views [V, N, K]; K = 1 stands for p beside 1 - p."""
    yes = np.exp(np.log(seen.clip(LEAST, 1 - LEAST)).mean(axis=0))
    if seen.shape[2] > 1:
        return np.asarray(yes / yes.sum(axis=1, keepdims=True), np.float32)
    no = np.exp(np.log1p(-seen.clip(LEAST, 1 - LEAST)).mean(axis=0))
    return np.asarray(yes / (yes + no), np.float32)


def _mean_heading(seen: Array) -> Array:
    """Return the mean [N, 2] of headings [V, N, 2], view v of which was taken of a crop turned v times to the left."""
    turned_back = 1j ** np.arange(len(seen))[:, None]  # times i is a quarter to the right, y being down
    mean = ((seen[..., 0] + 1j * seen[..., 1]) * turned_back).mean(axis=0)
    return np.asarray(np.stack((mean.real, mean.imag), axis=1), np.float32)
