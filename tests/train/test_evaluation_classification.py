"""Scores of heads from probabilities and labels, each number worked out by hand."""

import numpy as np
import pytest

from aerial_train.evaluation.classification import (
    best_f,
    coverage_at,
    multiclass_mcc,
    precision_recall,
    risk_coverage,
    score_head,
    score_target,
)


def one_hot(answers, confidence, classes=3):
    rest = (1 - np.asarray(confidence, float)) / (classes - 1)
    rows = np.repeat(rest[:, None], classes, axis=1)
    rows[np.arange(len(answers)), answers] = confidence
    return rows


#        truth:  a a a a b b c, and one that nobody knows
TRUTH = np.array([0, 0, 0, 0, 1, 1, 2, -1])
ANSWERS = [0, 0, 0, 1, 1, 1, 0, 2]
SURE = [0.9, 0.95, 0.8, 0.5, 0.7, 0.99, 0.6, 0.9]


@pytest.fixture
def head():
    return score_head("shape", ("a", "b", "c"), one_hot(ANSWERS, SURE), TRUTH)


def test_unknown_labels_are_not_scored(head):
    assert head.count == 7 and sum(map(sum, head.confusion)) == 7
    assert score_head("shape", ("a", "b"), np.full((2, 2), 0.5), np.array([-1, -2])) is None


def test_confusion_has_the_truth_in_rows(head):
    assert head.confusion == [[3, 1, 0], [0, 2, 0], [1, 0, 0]]


def test_scores_of_a_class(head):
    a = head.classes[0]
    assert (a.support, a.predicted) == (4, 4)
    assert (a.precision, a.recall, a.f1, a.jaccard) == (3 / 4, 3 / 4, 3 / 4, 3 / 5)
    assert a.specificity == pytest.approx(2 / 3) and a.accuracy == pytest.approx(5 / 7)
    assert a.mcc == pytest.approx((3 * 2 - 1 * 1) / 12)
    assert head.classes[1].specificity == 4 / 5  # one false alarm among five, none missed
    assert 0 < a.recall_low < a.recall < a.recall_high < 1


def test_means_over_classes(head):
    assert head.accuracy == pytest.approx(5 / 7)
    assert head.macro["recall"] == pytest.approx((3 / 4 + 1 + 0) / 3)
    assert head.micro == {
        "precision": 5 / 7, "recall": 5 / 7, "f1": 5 / 7, "jaccard": 5 / 9, "specificity": pytest.approx(1 - 2 / 14)
    }  # fmt: skip
    assert (head.majority, head.majority_class) == (4 / 7, "a")
    assert head.majority_f1 == pytest.approx((8 / 11 + 0 + 0) / 3)


def test_classes_that_do_not_occur_are_no_part_of_the_mean():
    head = score_head("shape", ("a", "b", "c"), one_hot([0, 1], [0.9, 0.9]), np.array([0, 1]))
    assert head.macro["f1"] == 1 and head.classes[2].support == 0


def test_mcc_of_all_classes():
    assert multiclass_mcc(np.array([[5, 0], [0, 5]])) == 1
    assert multiclass_mcc(np.array([[0, 5], [5, 0]])) == -1
    assert multiclass_mcc(np.array([[5, 0], [5, 0]])) == 0
    # with two classes it is the well-known one: (TP TN - FP FN) / root
    assert multiclass_mcc(np.array([[4, 1], [2, 3]])) == pytest.approx((4 * 3 - 2 * 1) / (5 * 5 * 6 * 4) ** 0.5)


def test_frequent_classes_that_score_better_show(head):
    labels = np.repeat([0, 1, 2], (16, 4, 1))
    answers = labels.copy()
    answers[[16, 17, 20]] = 0
    scores = score_head("x", ("a", "b", "c"), one_hot(answers, np.full(21, 0.9)), labels)
    assert scores.frequency_r > 0.9 and scores.frequency_rank_r == pytest.approx(1)


def test_coverage_at_an_error():
    confidence = np.array([0.5, 0.9, 0.8, 0.7, 0.6])
    right = np.array([False, True, True, False, True])
    assert coverage_at(confidence, right, 0.0).coverage == 2 / 5
    assert coverage_at(confidence, right, 0.0).threshold == 0.8
    assert coverage_at(confidence, right, 0.25).coverage == 4 / 5
    assert coverage_at(confidence, right, 0.4).coverage == 1
    assert coverage_at(np.array([0.9, 0.8]), np.array([False, True]), 0.1).coverage == 0


def test_equal_confidences_stay_together():
    assert coverage_at(np.array([0.9, 0.9, 0.5]), np.array([True, False, True]), 0.1).coverage == 0


def test_risk_falls_with_coverage():
    coverage, error = risk_coverage(np.array([0.5, 0.9]), np.array([False, True]))
    assert coverage.tolist() == [0.5, 1] and error.tolist() == [0, 0.5]


def test_target_head():
    probability, is_target = np.array([0.9, 0.8, 0.7, 0.2]), np.array([True, False, True, False])
    score = score_target(probability, is_target, threshold=0.75)
    assert (score.accuracy, score.precision, score.recall) == (0.5, 0.5, 0.5)
    assert score.auroc == pytest.approx(3 / 4) and (score.base, score.majority) == (0.5, 0.5)
    assert score.average_precision == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_precision_recall_and_the_best_threshold():
    precision, recall, thresholds = precision_recall(
        np.array([0.9, 0.8, 0.7, 0.2]), np.array([True, False, True, False])
    )
    assert precision.tolist() == [1, 0.5, pytest.approx(2 / 3), 0.5]
    assert recall.tolist() == [0.5, 0.5, 1, 1]
    assert best_f(precision, recall, thresholds, 1) == 0.7
    assert best_f(precision, recall, thresholds, 0.1) == 0.9  # precision is all that counts
