"""Tables line up, and say a dash for what is not known."""

import pytest

from aerial_train.evaluation.tables import Table, interval, number, percent


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
