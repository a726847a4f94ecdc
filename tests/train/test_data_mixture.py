"""Mixtures: each sample's source is a function of seed, epoch and index, in the shares that were asked for."""

import numpy as np
import pytest

from aerial_runtime.errors import UsageError
from aerial_train.data.mixture import CropMixture, FrameMixture, chosen_parts
from aerial_train.data.opening import parse_data


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("scenes", [("scenes", 1.0)]),
        ("some/folder", [("some/folder", 1.0)]),
        ("scenes=2", [("scenes", 2.0)]),
        ("scenes=0.9,real/=0.1", [("scenes", 0.9), ("real/", 0.1)]),
        ("a=b/c=1,d=3", [("a=b/c", 1.0), ("d", 3.0)]),
    ],
)
def test_data_are_named_alone_or_with_weights(text, parts):
    assert parse_data(text) == parts


def test_a_path_that_exists_is_taken_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a=1,b=2").mkdir()
    assert parse_data("a=1,b=2") == [("a=1,b=2", 1.0)]


@pytest.mark.parametrize(
    "text", ["scenes=0.9,real/", "scenes=0,real=1", "scenes=-1,r=1", "scenes=much", "=1,a=2", "a=nan"]
)
def test_weights_that_are_none_are_refused(text):
    with pytest.raises(UsageError, match="NAME=WEIGHT"):
        parse_data(text)


def test_shares_are_as_asked_for_and_fixed():
    chosen = chosen_parts([0.9, 0.1], 3, 5, range(4000))
    assert (chosen == 1).mean() == pytest.approx(0.1, abs=0.015)
    np.testing.assert_array_equal(chosen[100:200], chosen_parts([9, 1], 3, 5, range(100, 200)))
    assert (chosen != chosen_parts([0.9, 0.1], 3, 6, range(4000))).any()
    assert (chosen != chosen_parts([0.9, 0.1], 4, 5, range(4000))).any()


def test_batches_are_the_samples_of_the_parts_in_order(square_frames, colour_crops, arrows):
    class Frames(square_frames):
        count = None

    class Crops(colour_crops):
        count = None

    frames = FrameMixture([(Frames(seed=1), 0.5), (Frames(seed=2), 0.5)], seed=0)
    crops = CropMixture([(Crops(seed=1), 0.7), (Crops(seed=2), 0.3)], seed=0)
    for mixture, part, fields in ((frames, Frames, ("images", "coverage")), (crops, Crops, ("crops", "heading"))):
        whole = mixture.batch(2, range(40))
        chosen = chosen_parts(mixture.weights, 0, 2, range(40))
        assert set(chosen) == {0, 1} and mixture.count is None and mixture.label_space is arrows
        for index in range(40):
            alone = part(seed=1 + int(chosen[index])).batch(2, [index])
            for field in fields:
                np.testing.assert_array_equal(getattr(whole, field)[index], getattr(alone, field)[0])
    batch = crops.batch(2, range(40))
    assert {name: len(values) for name, values in batch.labels.items()} == {"kind": 40, "mark": 40}
