import optuna
import pytest

from aerial_runtime.errors import UsageError
from aerial_train.fit_segmenter import SegmenterOptions
from aerial_train.search_space import Dimension, parse_search


def test_ranges_and_choices():
    found = parse_search(
        ["lr=1e-4..1e-2:log", "convs=1..3", "filters=8-16,16-32", "weight-decay=0..0.1", "dropout=0..0.5"],
        SegmenterOptions,
    )
    assert found == [
        Dimension("lr", 1e-4, 1e-2, log=True),
        Dimension("convs", 1, 3),
        Dimension("filters", choices=("8-16", "16-32")),
        Dimension("weight_decay", 0.0, 0.1),
        Dimension("dropout", 0.0, 0.5),
    ]


def test_what_is_suggested_is_what_the_option_holds():
    trial = optuna.trial.FixedTrial({"convs": 2, "filters": "8-16", "lr": 0.001, "dropout": 0.25, "compile": "false"})
    words = ["convs=1..3", "filters=8-16,16-32", "lr=1e-4..1e-2:log", "dropout=0..0.5", "compile=true,false"]
    found = [dimension.suggest(trial, SegmenterOptions) for dimension in parse_search(words, SegmenterOptions)]
    assert found == [2, (8, 16), 0.001, 0.25, False]


def test_a_comma_in_brackets_parts_no_choices():
    (loss,) = parse_search(["loss=jaccard,tversky(0.3,0.7)+bce,focal"], SegmenterOptions)
    assert loss.choices == ("jaccard", "tversky(0.3,0.7)+bce", "focal")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lrr=1..2", "'lr'"),
        ("workers=1..2", "cannot vary"),
        ("recipe=flight,r256", "cannot vary"),
        ("lr", "must look like"),
        ("lr=2..1", "LOW under HIGH"),
        ("lr=0..1:log", "LOW under HIGH"),
        ("schedule=a..b", "schedule"),
        ("schedule=cosin,step", "'cosine'"),
        ("convs=1.5..2", "cannot be '1.5'"),
        ("filters=8..16", "no range"),
        ("compile=false..true", "no range"),
    ],
)
def test_what_cannot_be_searched(text, message):
    with pytest.raises(UsageError, match=message):
        parse_search([text], SegmenterOptions)
    with pytest.raises(UsageError, match="something to vary"):
        parse_search([], SegmenterOptions)
