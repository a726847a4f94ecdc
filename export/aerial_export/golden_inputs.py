"""What goldens are made of: synthetic scenes, and inputs that scenes do not cover. On the ground; free of torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aerial_export.demo_inputs import demo_inputs
from aerial_export.goldens import Answer, Golden, Input
from aerial_export.parity import LIMITS
from aerial_runtime.card import ModelCard
from aerial_runtime.contract import U8
from aerial_runtime.errors import InputError
from aerial_runtime.label_file import LabelledBox
from aerial_runtime.say import say
from aerial_runtime.segment import MAX_CANDIDATES

SEED: Final = 7
# Labels are counted: 99.9 % of them is a number only when there are thousands.
FRAMES: Final = 48
FRAME_SIZE: Final = (270, 483)  # height, width; odd, as no level of a UNet likes it
LARGE_FRAME: Final = (1080, 1920)
CROPS: Final = 2100
TARGETS: Final = 0.8  # share of the crops that hold one; what labels the rest get means little
BATCH: Final = MAX_CANDIDATES

STORED_FRAMES: Final = 4
STORED_CROPS: Final = BATCH + 1
# A stored crop's labels are decided by at least so much, twice what FP16 may err: no rounding within the limits can
# turn them.
CLEAR: Final = 2 * LIMITS["fp16"].head_error

ODD_SIZES: Final = ((133, 217), (37, 41), (1, 1), (64, 96), (2, 129))  # height, width


Draw = Callable[[ModelCard], Sequence[Input]]


def draw_inputs(card: ModelCard) -> list[Input]:
    """Return the inputs of a model's goldens: probes, and scenes drawn like those of its training.

    Where what draws them is not installed, as on the aircraft, or cannot draw the model's classes, which real photos
    may hold, the scenes are those of the demo flight; it is said.
    """
    probes = probe_frames() if card.kind == "segmenter" else probe_crops(card.crop_size or 0)
    try:
        scenes = _frames(card) if card.kind == "segmenter" else _crops(card)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("aerial_"):
            raise
        say(f"no scenes can be drawn here ({error.name} is not installed): the demo flight's take their place")
        scenes = demo_inputs(card)
    except InputError as error:
        say(f"no scenes can be drawn ({str(error).partition(';')[0]}): the demo flight's take their place")
        scenes = demo_inputs(card)
    return [*probes, *scenes]


def probe_frames() -> list[Input]:
    """Return frames [1, H, W, 3] that scenes do not cover: noise, black, white, odd sizes down to 1x1."""
    rng = np.random.default_rng(0)
    noise = [Input(f"noise {w}x{h}", rng.integers(0, 256, (1, h, w, 3), dtype=np.uint8)) for h, w in ODD_SIZES]
    return [*noise, *(Input(f"all {v}", np.full((1, 90, 130, 3), v, np.uint8)) for v in (0, 255))]


def probe_crops(size: int) -> list[Input]:
    """Return batches of crops [N, S, S, 3] that scenes do not cover: noise, black and white; one crop and sixteen."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (17, size, size, 3), dtype=np.uint8)
    plain = np.stack([np.full((size, size, 3), value, np.uint8) for value in (0, 255)])
    return [Input("one crop of noise", noise[:1]), Input("noise", noise[1:]), Input("black and white", plain)]


def _frames(card: ModelCard) -> list[Input]:
    from aerial_train.scenes.backgrounds import Backgrounds
    from aerial_train.scenes.frames import FrameRecipe, FrameScenes

    height, width = FRAME_SIZE
    small = FrameScenes(card.label_space, FrameRecipe(height=height, width=width), Backgrounds(), SEED)
    large = small.with_size(LARGE_FRAME[1], LARGE_FRAME[0])
    inputs = []
    for index, scenes in enumerate([small] * FRAMES + [large]):
        sample = scenes.sample(0, index)
        boxes = [(target.box, target.truncated) for target in sample.targets]
        truth = tuple(LabelledBox(box.x, box.y, box.width, box.height, truncated) for box, truncated in boxes)
        inputs.append(Input(f"scene {index}", sample.image_bgr[np.newaxis], is_scene=True, truth=truth))
    return inputs


def _crops(card: ModelCard) -> list[Input]:
    from aerial_train.scenes.backgrounds import Backgrounds
    from aerial_train.scenes.crops import CropRecipe, CropScenes

    recipe = replace(CropRecipe(), size=card.crop_size or 0, margin=card.crop_margin, targets=TARGETS)
    scenes = CropScenes(card.label_space, recipe, Backgrounds(), SEED)
    starts = range(0, CROPS, BATCH)
    return [
        Input(f"crops {start}-{start + BATCH - 1}", scenes.batch(0, range(start, start + BATCH)).crops, is_scene=True)
        for start in starts
    ]


def to_store(card: ModelCard, goldens: Sequence[Golden]) -> tuple[Golden, ...]:
    """Return the goldens that are stored: every probe, and as many scenes as weigh a few MB.

    Of the crops those whose labels are clear, one alone and a full batch: on a sample this small the toss of a single
    coin would decide the check.
    """
    probes = tuple(golden for golden in goldens if not golden.is_scene)
    scenes = [golden for golden in goldens if golden.is_scene]
    if card.kind == "segmenter" or not scenes:
        small = [golden for golden in scenes if golden.images.shape[1:3] != LARGE_FRAME]
        busiest = sorted(small, key=lambda golden: -sum(label.scored for label in golden.truth))
        return (*probes, *busiest[:STORED_FRAMES])
    images = np.concatenate([golden.images for golden in scenes])
    answer, control = (_joined(answers) for answers in zip(*((g.answer, g.control) for g in scenes), strict=True))
    rows = np.flatnonzero(np.all([_is_clear(card, name, values) for name, values in answer.items()], axis=0))
    batches = rows[:1], rows[1:STORED_CROPS]
    return (*probes, *(_picked(images, answer, control, batch) for batch in batches if len(batch)))


def _picked(images: U8, answer: Answer, control: Answer, rows: npt.NDArray[np.intp]) -> Golden:
    right, wrong = ({name: values[rows] for name, values in answers.items()} for answers in (answer, control))
    return Golden(f"crops {rows[0]}-{rows[-1]}", images[rows], right, wrong, is_scene=True)


def _joined(answers: Sequence[Answer]) -> Answer:
    return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}


def _is_clear(card: ModelCard, name: str, values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Tell of each crop whether a label is decided by at least CLEAR. values: [N, K], [N, 1] of `target`."""
    if name == "heading":
        return np.ones(len(values), np.bool_)
    if name == "target":
        return np.asarray(np.abs(values[:, 0] - card.thresholds.target) >= CLEAR)
    second, first = np.sort(values, axis=1)[:, -2:].T
    return np.asarray(first - second >= CLEAR)
