"""Letters that nobody could read, told from those that the model should have."""

import numpy as np

from aerial_runtime.card import load_label_space
from aerial_train.evaluation.gather import CropOutcomes
from aerial_train.evaluation.legibility import legibility_table
from aerial_train.scenes.backgrounds import Backgrounds
from aerial_train.scenes.crops import CROP_RECIPES, CropScenes


def outcomes(labels, said, letters):
    count = len(labels)
    return CropOutcomes(
        probabilities={"letter": np.eye(3)[said]},
        target=np.ones(count),
        heading=np.zeros((count, 2)),
        is_target=np.ones(count, bool),
        labels={"letter": np.array(labels)},
        true_heading=np.zeros((count, 2)),
        source_px=np.full(count, 30.0),
        names=[str(k) for k in range(count)],
        indices=list(range(count)),
        letters=letters if letters is None else np.array(letters, float),
    )


def test_wrong_letters_by_height():
    letters = [(4, 200), (5.9, 200), (8, 200), (20, 39), (20, 200), (20, 200), (0, 0)]
    table = legibility_table(outcomes([0, 1, 2, 0, 1, 2, -2], [0, 2, 2, 1, 0, 2, 0], letters))
    assert [tuple(row) for row in table.rows] == [
        ("1-5", "2", "1", "50.0"), ("8-9", "1", "0", "0.0"), ("from 12", "3", "2", "66.7"),
    ]  # fmt: skip
    # Two are too small and one is too faint; of those one each is wrong, and a third wrong one could be read.
    assert "3 of 6 letters (50.0 %), 2 of 3 wrong ones (66.7 %)" in table.notes[0]


def test_nothing_is_said_where_nothing_was_drawn():
    assert legibility_table(outcomes([0, 1], [0, 0], None)) is None
    assert legibility_table(outcomes([0, 1], [0, 0], [(0, 0), (0, 0)])) is None
    assert legibility_table(outcomes([-1, -2], [0, 0], [(9, 99), (0, 0)])) is None


def test_drawn_crops_know_their_letters():
    for recipe in ("flight", "r32"):
        space = load_label_space("suas-r32" if recipe == "r32" else "suas")
        scenes = CropScenes(space, CROP_RECIPES[recipe], Backgrounds())
        samples = [scenes.sample(0, index) for index in range(60)]
        lettered = [sample for sample in samples if sample.labels["letter"] >= 0 and sample.is_target]
        assert len(lettered) > 20
        for sample in samples:
            has = sample.is_target and sample.labels["letter"] >= 0
            assert (0 < sample.letter_px <= CROP_RECIPES[recipe].size and sample.letter_levels > 0) == has
    # 31/32 of the crop is target at most, and no letter of the protocol is much under 0.4 of it but in small circles.
    assert 5 < np.median([sample.letter_px for sample in lettered]) < 20
