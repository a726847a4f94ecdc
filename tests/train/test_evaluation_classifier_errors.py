"""Which crops a report shows, and what it says of them."""

import numpy as np

from aerial_runtime.card import Head, Heading, LabelSpace
from aerial_train.evaluation.classifier_errors import confused_pairs, crop_rows, suspected_labels, worst_crops
from aerial_train.evaluation.gather import CropOutcomes

SPACE = LabelSpace(
    "arrows",
    (Head("mark", ("dot", "bar", "arrow")),),
    Heading("direction", ("N", "E", "S", "W"), "mark", any_angle=("dot",), half_turn=("bar",)),
)


def outcomes(given, labels, target=None, is_target=None, heading=None, truth=None):
    count = len(labels)
    return CropOutcomes(
        {"mark": np.array(given, float)},
        np.full(count, 0.99) if target is None else np.array(target),
        np.zeros((count, 2)) if heading is None else np.array(heading, float),
        np.ones(count, bool) if is_target is None else np.array(is_target),
        {"mark": np.array(labels)},
        np.zeros((count, 2)) if truth is None else np.array(truth, float),
        np.full(count, 20.0),
        [f"c{i}" for i in range(count)],
        list(range(count)),
    )


SURE, LIKELY, TORN = (0.98, 0.01, 0.01), (0.7, 0.2, 0.1), (0.4, 0.35, 0.25)
DOT, BAR, ARROW = 0, 1, 2


def test_the_most_confidently_wrong_first():
    seen = outcomes([TORN, SURE, LIKELY, SURE, SURE], [BAR, DOT, BAR, ARROW, -1])
    assert worst_crops(seen, SPACE, 0.5, 10) == [3, 2, 0]
    assert worst_crops(seen, SPACE, 0.5, 1) == [3]


def test_wrong_about_being_a_target():
    seen = outcomes([SURE, SURE, SURE], [DOT, -1, -1], [0.2, 0.9, 0.4], [True, False, False])
    assert worst_crops(seen, SPACE, 0.5, 10) == [1, 0]


def test_pairs():
    seen = outcomes([SURE, LIKELY, TORN, SURE, SURE], [BAR, BAR, ARROW, DOT, BAR])
    first, second = confused_pairs(seen, SPACE)
    assert (first.true, first.answered, first.count, first.support) == ("bar", "dot", 3, 3)
    assert first.examples == [0, 4, 1]
    assert (second.true, second.count) == ("arrow", 1)


def test_only_sure_contradictions_are_suspected():
    seen = outcomes([SURE, SURE, LIKELY, LIKELY], [DOT, BAR, BAR, DOT])
    (found,) = suspected_labels(seen, SPACE, 10)
    assert (found.crop, found.label, found.answer) == (1, "bar", "dot")
    assert suspected_labels(outcomes([LIKELY], [ARROW]), SPACE, 10) == []  # the label is still thought possible


def test_rows_of_a_crop():
    up, down = (0, -1.0), (0, 0.5)
    seen = outcomes([SURE, SURE], [BAR, DOT], heading=[down, down], truth=[up, up])
    wrong = crop_rows(seen, SPACE, 0.5, 0)
    assert [tuple(row.cells) for row in wrong] == [
        ("target", "yes", "yes", "0.99"), ("mark", "bar", "dot", "0.98"), ("direction", "N 0°", "S 180°", "0.50")
    ]  # fmt: skip
    assert [row.wrong for row in wrong] == [False, True, False]  # a bar may point either way


def test_rows_of_what_nobody_knows():
    seen = outcomes([SURE, SURE, SURE], [-1, -2, -1], is_target=[True, True, False])
    assert crop_rows(seen, SPACE, 0.5, 0)[1].cells[1] == "?"
    assert crop_rows(seen, SPACE, 0.5, 1)[1].cells[1] == "none"
    (only,) = crop_rows(seen, SPACE, 0.5, 2)
    assert only.wrong and tuple(only.cells) == ("target", "no", "yes", "0.99")
