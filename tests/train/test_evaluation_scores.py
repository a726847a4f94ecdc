"""All that is measured of a classifier, on a set of a few crops."""

import numpy as np
import pytest

from aerial_runtime.card import Head, LabelSpace, Thresholds
from aerial_train.evaluation.gather import CropOutcomes
from aerial_train.evaluation.scores import classifier_numbers, score_classifier

PADS = LabelSpace("pads", (Head("kind", ("round", "square")), Head("color", ("red", "blue"))))
YES, NO = (0.9, 0.1), (0.2, 0.8)


@pytest.fixture
def seen():
    return CropOutcomes(
        probabilities={"kind": np.array([YES, YES, NO, YES, YES]), "color": np.array([YES, NO, NO, YES, YES])},
        target=np.array([0.9, 0.9, 0.9, 0.9, 0.1]),
        heading=np.zeros((5, 2)),
        is_target=np.array([True, True, True, False, False]),
        labels={"kind": np.array([0, 1, 1, -1, -1]), "color": np.array([0, 1, -1, -1, -1])},
        true_heading=np.zeros((5, 2)),
        source_px=np.array([10.0, 30, 30, 12, 200]),
        names=list("abcde"),
        indices=list(range(5)),
    )


def test_heads_and_all_of_them(seen):
    score = score_classifier(seen, PADS, Thresholds(target=0.5))
    assert (score.crops, score.targets, score.orientation) == (5, 3, None)
    assert [(head.name, head.count) for head in score.heads] == [("kind", 3), ("color", 2)]
    assert (score.all_known, score.all_right) == (2, 0.5)
    assert score.all_majority == 0  # kind: always square; color: always red; no crop is both
    assert score.target.accuracy == 4 / 5
    assert score.mean_accuracy == pytest.approx((2 / 3 + 1 + 4 / 5) / 3)


def test_sizes(seen):
    score = score_classifier(seen, PADS, Thresholds())
    rows = {(row.name, row.from_px): (row.count, row.right) for row in score.sizes if row.count}
    assert rows == {("kind", 8): (1, 1), ("kind", 25): (2, 1), ("color", 8): (1, 1), ("color", 25): (1, 1)}


def test_heads_without_labels_are_left_out(seen):
    seen.labels["color"][:] = -1
    score = score_classifier(seen, PADS, Thresholds())
    assert [head.name for head in score.heads] == ["kind"]
    assert (score.all_known, score.all_right) == (0, None)


def test_numbers_have_the_names_of_training(seen):
    numbers = classifier_numbers(score_classifier(seen, PADS, Thresholds()))
    assert numbers["kind_accuracy"] == pytest.approx(2 / 3) and numbers["color_accuracy"] == 1
    assert {"target_accuracy", "target_auroc", "mean_accuracy", "kind_ece"} <= set(numbers)
    assert all(isinstance(value, float) for value in numbers.values())
