"""Speed of the whole pipeline beside the bare model calls, frames from memory: `make bench`.

Every round takes one frame whole (segment, crop, classify, build the message, encode it, send it to a subscriber) and
calls both models alone on the same inputs. The models are the shipped ones; `32 px` is a classifier of the default
network for crops of that size with random weights, whose every candidate counts as a target.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path

import torch
from end_to_end import end_to_end, interleaved, scene

from aerial_export.to_onnx import build_model
from aerial_runtime.card import ModelCard, load_label_space
from aerial_train.checkpoint import Checkpoint, classifier_tensors
from aerial_train.classifier import Classifier, ClassifierConfig

FULL_HD, ULTRA_HD = (1920, 1080), (3840, 2160)
# Frame, candidates, crop's side (None: the shipped classifier's); frames a second and ratio wanted (0: none).
CASES = (
    (FULL_HD, 10, None, 27, 1.08),
    (FULL_HD, 50, None, 0, 1.15),
    (FULL_HD, 10, 32, 30, 0),
    (ULTRA_HD, 10, None, 6.5, 0),
)


def main() -> None:
    """Print medians, rates and ratios of each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60, help="frames of each case (60)")
    parser.add_argument("--threads", type=int, help="CPU threads of the models (all cores)")
    args = parser.parse_args()
    print(f"frames from memory, {args.rounds} rounds, medians")
    with tempfile.TemporaryDirectory() as folder:
        for (width, height), wanted, crop_px, rate, ratio in CASES:
            classifier = random_classifier(Path(folder), crop_px) if crop_px else None
            options = {"conf": 0.0} if crop_px else {}
            image_bgr, candidates = scene(wanted, width, height)
            with end_to_end(args.threads, classifier, **options) as flight:
                flight.warm_up(image_bgr)
                times = interleaved(partial(flight.whole, image_bgr), flight.bare(image_bgr), args.rounds)
            print(
                f"  {width}x{height}, {candidates:>2} candidates{f' of {crop_px} px' if crop_px else '':>9}: "
                f"whole {times.one:6.1f} ms ({1000 / times.one:5.1f} frames/s{f', wanted {rate}' if rate else ''}), "
                f"bare models {times.other:6.1f} ms, ratio {times.ratio:.3f}{f' (wanted {ratio})' if ratio else ''}"
            )


def random_classifier(folder: Path, crop_px: int) -> Path:
    """Write a classifier of the default network with random weights for crops of that side."""
    space = load_label_space("suas")
    torch.manual_seed(0)
    inputs, outputs = classifier_tensors(space, crop_px)
    card = ModelCard(
        kind="classifier", name="random", label_space=space, inputs=inputs, outputs=outputs, crop_margin=1.3,
        crop_size=crop_px,
    )  # fmt: skip
    path = folder / f"random_{crop_px}.onnx"
    path.write_bytes(build_model(Checkpoint(Classifier(ClassifierConfig(), space).eval(), card)).SerializeToString())
    return path


if __name__ == "__main__":
    main()
