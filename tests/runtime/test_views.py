"""Answers averaged over quarter turns, by models that are computed by hand."""

import numpy as np
import pytest

from aerial_runtime.backends.fake import FakeBackend
from aerial_runtime.card import card_from_json, card_to_json, load_label_space
from aerial_runtime.errors import ModelError
from aerial_runtime.views import AGAIN_FROM, answers

SUAS = load_label_space("suas")
CORNERS = ((0, 0), (0, -1), (-1, -1), (-1, 0))


def crops_of(*corners, size=8):
    """Black crops with one bright pixel in a corner (row, column)."""
    crops = np.zeros((len(corners), size, size, 3), np.uint8)
    for crop, (row, column) in zip(crops, corners, strict=True):
        crop[row, column] = 255
    return crops


def corner_of(crop):
    return next(k for k, corner in enumerate(CORNERS) if crop[corner].any())


def softmax(logits):
    powers = np.exp(logits)
    return powers / powers.sum(axis=-1, keepdims=True)


LOGITS = np.random.default_rng(0).normal(0, 2, (4, 3)).astype(np.float32)  # what the model says by corner
TARGET = np.array((2.0, 1.0, -0.5, 3.0), np.float32)


def speaking(kit, views, calls=None, target=TARGET):
    def function(crops):
        if calls is not None:
            calls.append(len(crops))
        corners = [corner_of(crop) for crop in crops]
        return {"target": (1 / (1 + np.exp(-target[corners])))[:, None], "kind": softmax(LOGITS[corners])}

    return FakeBackend(kit.classifier_card(crop_size=16, views=views), function)


def test_one_view_is_the_model_itself(kit):
    calls = []
    said = answers(speaking(kit, 1, calls), crops_of(*CORNERS, size=16))
    assert calls == [4] and np.array_equal(said["kind"], softmax(LOGITS))


@pytest.mark.parametrize("views", [2, 3, 4])
def test_logits_are_averaged(kit, views):
    calls = []
    said = answers(speaking(kit, views, calls), crops_of(CORNERS[0], CORNERS[2], size=16))
    assert calls == [2, 2 * (views - 1)]
    for row, corner in enumerate((0, 2)):
        seen = [(corner - turn) % 4 for turn in range(views)]  # each turn to the left moves the corner one back
        assert said["kind"][row] == pytest.approx(softmax(LOGITS[seen].mean(axis=0)), abs=1e-5)
        assert said["target"][row, 0] == pytest.approx(1 / (1 + np.exp(-TARGET[seen].mean())), abs=1e-5)
        assert said["kind"][row].sum() == pytest.approx(1, abs=1e-5)


def test_what_is_no_target_is_not_looked_at_again(kit):
    calls, target = [], np.array((-9.0, 1.0, -9.0, -9.0), np.float32)
    crops = crops_of(*CORNERS, size=16)
    said = answers(speaking(kit, 4, calls, target), crops)
    assert calls == [4, 3] and 1 / (1 + np.exp(9)) < AGAIN_FROM
    others = [0, 2, 3]
    assert np.array_equal(said["kind"][others], softmax(LOGITS[others]))
    assert said["kind"][1] == pytest.approx(softmax(LOGITS.mean(axis=0)), abs=1e-5)
    calls.clear()
    answers(speaking(kit, 4, calls, target), crops[others])
    assert calls == [3]


def suas_model(kit, heading_of):
    def function(crops):
        said = {head.name: np.full((len(crops), len(head.classes)), 1 / len(head.classes)) for head in SUAS.heads}
        said |= {"target": np.ones((len(crops), 1)), "heading": np.array([heading_of(crop) for crop in crops])}
        return {name: array.astype(np.float32) for name, array in said.items()}

    return FakeBackend(kit.classifier_card(label_space=SUAS, crop_size=16, views=4), function)


def test_headings_are_turned_back(kit):
    half = np.sqrt(0.5)
    of_corner = np.array(((-half, -half), (half, -half), (half, half), (-half, half)))  # x right, y down
    right = answers(suas_model(kit, lambda crop: of_corner[corner_of(crop)]), crops_of(*CORNERS, size=16))
    assert right["heading"] == pytest.approx(of_corner, abs=1e-6)
    stubborn = answers(suas_model(kit, lambda crop: (0.0, -1.0)), crops_of(*CORNERS, size=16))
    assert stubborn["heading"] == pytest.approx(0, abs=1e-6)  # it says up of everything: no confidence is left


def test_certain_answers_stay_numbers(kit):
    def function(crops):
        return {"target": np.ones((len(crops), 1), np.float32), "kind": np.eye(3, dtype=np.float32)[[0] * len(crops)]}

    said = answers(FakeBackend(kit.classifier_card(views=4), function), np.zeros((2, 16, 16, 3), np.uint8))
    assert said["target"] == pytest.approx(1, abs=1e-5) and said["kind"] == pytest.approx(np.eye(3)[[0, 0]], abs=1e-5)


def test_cards_know_their_views(kit):
    card = kit.classifier_card(views=4)
    assert card_from_json(card_to_json(card), "x").views == 4
    older = card_to_json(card).replace('"views": 4,', "")
    assert card_from_json(older, "x").views == 1
    for wrong in (0, 5):
        with pytest.raises(ModelError, match=r"views must be within 1\.\.4"):
            card_from_json(card_to_json(card).replace('"views": 4', f'"views": {wrong}'), "x")
    with pytest.raises(ValueError, match="1 for a segmenter"):
        kit.segmenter_card(views=2)
