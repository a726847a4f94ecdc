"""What is gained and lost between two models."""

from dataclasses import replace

import numpy as np
import pytest

from aerial_runtime.card import Head, LabelSpace
from aerial_runtime.contract import Box
from aerial_runtime.errors import InputError
from aerial_train.evaluation.differences import (
    classifier_differences,
    difference,
    lone_extras,
    segmenter_differences,
)
from aerial_train.evaluation.gather import CropOutcomes
from aerial_train.evaluation.objects import ExtraOutcome, LabelOutcome, Objects
from aerial_train.scenes.frames import LabelledTarget

PADS = LabelSpace("pads", (Head("kind", ("round", "square")),))


def test_counts_and_p():
    row = difference("x", [10, 11, 12, 13, 14], [1, 1, 0, 0, 0], [1, 0, 1, 1, 0])
    assert (row.both, row.gained, row.lost, row.neither) == (1, [12, 13], [11], 1)
    assert (row.first, row.second, row.p) == (2 / 5, 3 / 5, 1)


def outcomes(answers, target):
    labels = np.array([0, 1, 0, -1])
    given = np.eye(2)[answers]
    return CropOutcomes(
        {"kind": given}, np.array(target), np.zeros((4, 2)), np.array([True, True, True, False]), {"kind": labels},
        np.zeros((4, 2)), np.full(4, 20.0), list("abcd"), list(range(4)),
    )  # fmt: skip


def test_classifiers_each_at_its_own_threshold():
    a, b = outcomes([0, 0, 0, 0], [0.8, 0.8, 0.8, 0.8]), outcomes([0, 1, 1, 1], [0.8, 0.8, 0.8, 0.8])
    kind, target = classifier_differences(PADS, a, b, (0.5, 0.9))
    assert (kind.count, kind.gained, kind.lost) == (3, [1], [2])
    assert (target.gained, target.lost) == ([3], [0, 1, 2])


def test_other_crops_cannot_be_compared():
    a = outcomes([0, 0, 0, 0], [0.8] * 4)
    b = replace(a, labels={"kind": np.array([0, 0, 0, -1])})
    with pytest.raises(InputError, match="cut different crops"):
        classifier_differences(PADS, a, b, (0.5, 0.5))


def objects(found, extras=()):
    sizes = (10, 20, 30, 30)
    labels = [
        LabelOutcome(0, LabelledTarget(Box(0, 0, size, 5), {}, {}, None, k == 3), k != 3, hit, hit, 1.0)
        for k, (size, hit) in enumerate(zip(sizes, found, strict=True))
    ]
    return Objects(0.5, labels, [ExtraOutcome(frame, Box(*box), 0.9) for frame, box in extras], 0, 1)


def test_labels_by_size():
    rows = segmenter_differences(objects([0, 1, 0, 0]), objects([1, 1, 1, 1]), (8, 17, 25))
    counts = {row.name: (row.count, row.gained, row.lost) for row in rows}
    assert counts == {
        "labels from 17 px": (2, [2], []),  # the truncated one does not count
        "8-16 px": (1, [0], []), "17-24 px": (1, [], []), "from 25 px": (1, [2], []),
    }  # fmt: skip


def test_extras_of_one_alone():
    here, near, there = (0, (10, 10, 20, 20)), (0, (12, 10, 20, 20)), (1, (10, 10, 20, 20))
    nothing = [0, 0, 0, 0]
    only_a, only_b = lone_extras(objects(nothing, [here, there]), objects(nothing, [near]))
    assert [extra.frame for extra in only_a] == [1] and only_b == []
