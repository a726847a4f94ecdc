import pytest
import torch

from aerial_runtime.card import load_label_space
from aerial_train.classifier_scores import ClassifierScores, degrees_of, sector_of, turn_between

SUAS = load_label_space("suas")
LETTERS = SUAS.head("letter").classes


def test_degrees_are_clockwise_from_image_up():
    vectors = torch.tensor([[0.0, -1.0], [1.0, 0.0], [0.0, 2.0], [-0.1, 0.0]])
    assert (degrees_of(vectors) % 360).tolist() == [0, 90, 180, 270]


def test_sectors_are_centred_on_their_direction():
    degrees = torch.tensor([0.0, 22.0, 23.0, 359.0, -23.0, 180.0, 540.0])
    assert sector_of(degrees, 8).tolist() == [0, 0, 1, 0, 7, 4, 4]


def test_turns_are_the_short_way_round():
    assert turn_between(torch.tensor([350.0, 10.0, 0.0]), torch.tensor([10.0, 350.0, 180.0])).tolist() == [20, 20, 180]


def scores_of(letters, seen, truth, is_target):
    outputs = {head.name: torch.zeros(len(letters), len(head.classes)) for head in SUAS.heads}
    outputs["letter"] = torch.nn.functional.one_hot(torch.tensor([LETTERS.index(c) for c in letters]), 36).float()
    outputs["target"] = torch.tensor([[2.0 if real else -2.0] for real in is_target])
    outputs["heading"] = torch.tensor(seen)
    labels = {head.name: torch.zeros(len(letters), dtype=torch.long) for head in SUAS.heads}
    labels["letter"] = torch.tensor([LETTERS.index(c) for c in letters])
    labels["shape"] = torch.full((len(letters),), -1)
    labels["shape_color"] = torch.full((len(letters),), -2)
    scores = ClassifierScores(SUAS)
    scores.update(outputs, torch.tensor(is_target), labels, torch.tensor(truth), torch.tensor(1.5))
    return scores.compute()


def test_symmetric_letters_are_forgiven_only_by_the_aware_score():
    up, down, right = [0.0, -1.0], [0.0, 1.0], [1.0, 0.0]
    # A right, A wrong, H turned by 180 degrees (looks the same), O anyhow, and one that is no target at all.
    result = scores_of("AAHOA", [up, right, down, right, down], [up, up, up, up, up], [1, 1, 1, 1, 0])
    assert result["orientation_accuracy_raw"] == pytest.approx(1 / 4)
    assert result["orientation_accuracy"] == pytest.approx(3 / 4)
    assert result["heading_error_deg"] == pytest.approx(90 / 3)  # O has no direction to be wrong about
    assert result["letter_accuracy"] == 1 and result["target_accuracy"] == 1 and result["target_auroc"] == 1
    assert result["loss"] == 1.5


def test_what_no_crop_is_labelled_with_has_no_score_and_no_part_in_the_mean():
    up, nowhere = [0.0, -1.0], [0.0, 0.0]
    result = scores_of("AB", [up, up], [nowhere, nowhere], [1, 1])
    assert not {"shape_accuracy", "shape_color_accuracy", "orientation_accuracy"} & set(result)
    assert result["letter_accuracy"] == result["target_accuracy"] == 1 and result["letter_color_accuracy"] == 1
    assert result["mean_accuracy"] == 1
