"""Tables line up, and say a dash for what is not known."""

import numpy as np
import pytest

from aerial_train.evaluation.classification import score_head
from aerial_train.evaluation.tables import Table, interval, mistaken_table, number, percent


def test_columns_line_up():
    table = Table("Title", ("name", "n"), [("long name", "7"), ("x", "12345")], ["a note"])
    assert str(table).splitlines() == [
        "Title",
        "  name           n",
        "  long name      7",
        "  x          12345",
        "  a note",
    ]


def test_rows_of_another_length_are_a_mistake():
    with pytest.raises(ValueError, match="zip"):
        str(Table("t", ("a", "b"), [("1", "2", "3")]))


def test_numbers():
    assert (percent(0.1234), percent(None), number(None), number(1.23456)) == ("12.3", "-", "-", "1.235")
    assert interval(0.1, 0.25) == "10.0-25.0"


def test_what_is_taken_for_each_other_counts_both_ways():
    truth, answers = np.array([0, 0, 0, 1, 1, 2, 2]), [0, 1, 1, 0, 1, 0, 2]
    head = score_head("letter", ("0", "O", "Q"), np.eye(3)[answers], truth)
    assert mistaken_table([head]).rows == [("letter", "4", "0/O 3, 0/Q 1")]
    right = score_head("letter", ("0", "O", "Q"), np.eye(3)[truth], truth)
    assert mistaken_table([right]).rows == [("letter", "0", "-")]
