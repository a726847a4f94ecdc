"""Candidates -> targets, with answers made by hand."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aerial_runtime.backends import open_backend
from aerial_runtime.backends.fake import FakeBackend
from aerial_runtime.card import Thresholds, load_label_space
from aerial_runtime.classify import Classifier, expected_outputs, heading_attribute
from aerial_runtime.contract import Box
from aerial_runtime.errors import ModelError, UsageError
from aerial_runtime.segment import Candidate

HEADING = load_label_space("suas").heading
RED, PINK, ORANGE, DIM = (0, 0, 255), (200, 0, 255), (0, 200, 255), (0, 0, 150)


def candidates(*boxes):
    return [Candidate(Box(*box), box[2] * box[3]) for box in boxes]


def answering(kit, confidence, kind, **thresholds):
    card = kit.classifier_card(thresholds=Thresholds(**thresholds))
    answers = {"target": np.array([[confidence]], np.float32), "kind": np.array([kind], np.float32)}
    return FakeBackend(card, lambda crops: answers)


def test_reads_each_candidate_and_rejects_what_is_no_target(kit, tiny_models):
    frame = kit.frame(64, 48, (0, 0, 8, RED), (16, 0, 8, DIM), (32, 8, 16, PINK), (4, 30, 12, ORANGE))
    found = candidates((0, 0, 8, 8), (16, 0, 8, 8), (32, 8, 16, 16), (4, 30, 12, 12))
    with open_backend(tiny_models / "classifier.onnx") as backend:
        targets = Classifier(backend)(frame, found)
    assert [target.attributes["kind"].label for target in targets] == ["plain", "pink", "orange"]
    assert [target.box for target in targets] == [found[index].box for index in (0, 2, 3)]
    assert [target.area_px for target in targets] == [64, 256, 144]
    assert all(target.confidence > 0.9 for target in targets)


def test_nothing_to_read_costs_no_model_call(kit):
    def never(crops):
        raise AssertionError

    assert Classifier(FakeBackend(kit.classifier_card(), never))(kit.frame(), []) == []


def test_one_batch_whatever_the_number(kit):
    batches = []

    def answer(crops):
        batches.append(crops.copy())
        return {"target": np.ones((len(crops), 1), np.float32), "kind": np.ones((len(crops), 3), np.float32)}

    classify = Classifier(FakeBackend(kit.classifier_card(), answer))
    frame = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    for count in (1, 16, 17, 90, 2):
        found = candidates(*((x % 40, x % 30, 16, 16) for x in range(count)))
        assert len(classify(frame, found)) == count
        assert batches[-1].shape == (count, 16, 16, 3)
        last = found[-1].box
        assert np.array_equal(batches[-1][-1], frame[last.y : last.y + 16, last.x : last.x + 16])
    assert len(batches) == 5


@pytest.mark.parametrize(("conf", "kept"), [(None, 0), (0.7, 1), (0.7001, 0), (0.0, 1), (1.0, 0)])
def test_conf_stands_before_the_cards_threshold(kit, conf, kept):
    backend = answering(kit, 0.7, [1, 0, 0], target=0.8)
    assert len(Classifier(backend, conf)(kit.frame(), candidates((0, 0, 8, 8)))) == kept


@pytest.mark.parametrize(("best", "label"), [(0.59, None), (0.61, "pink")])
def test_abstains_under_the_cards_threshold(kit, best, label):
    backend = answering(kit, 1, [0.1, best, 0.1], abstain={"kind": 0.6})
    (target,) = Classifier(backend)(kit.frame(), candidates((0, 0, 8, 8)))
    assert target.attributes["kind"].label == label
    assert target.attributes["kind"].confidence == pytest.approx(best)


@pytest.mark.parametrize(
    ("abstain", "withheld"),
    [
        ({}, ["letter", "orientation"]),  # the card's
        ({"letter": 0.3}, ["orientation"]),
        ({"letter": 0.3, "orientation": 0.0}, []),
        ({"*": 0.0}, []),
        ({"*": 1.0, "shape": 0.9}, ["letter", "shape_color", "letter_color", "orientation"]),
    ],
)
def test_abstain_stands_before_the_cards_for_the_heads_it_names(kit, abstain, withheld):
    space = load_label_space("suas")
    thresholds = Thresholds(abstain={"letter": 0.6, "orientation": 0.6})
    answers = {name: np.zeros((1, size), np.float32) for name, size in expected_outputs(space).items()}
    answers = {name: answer + np.eye(1, answer.shape[1], 0, np.float32) * 0.95 for name, answer in answers.items()}
    answers |= {"letter": np.full((1, 36), 0.5, np.float32), "heading": np.array([[0.5, 0]], np.float32)}
    backend = FakeBackend(kit.classifier_card(label_space=space, thresholds=thresholds), lambda crops: answers)
    (target,) = Classifier(backend, abstain=abstain)(kit.frame(), candidates((0, 0, 8, 8)))
    assert [name for name, attribute in target.attributes.items() if attribute.label is None] == withheld


def test_an_unknown_head_is_named_beside_the_nearest(kit):
    backend = FakeBackend(kit.classifier_card(label_space=load_label_space("suas")), lambda crops: {})
    with pytest.raises(UsageError, match=r"names the head 'leter', which .* has not; the nearest is 'letter'"):
        Classifier(backend, abstain={"leter": 0.5})
    with pytest.raises(UsageError, match="the nearest is 'orientation'"):
        Classifier(backend, abstain={"orient": 0.5, "shape": 0.1})


def test_each_row_keeps_its_own_answers(kit):
    """Rejected rows stand between those that are kept."""
    rng = np.random.default_rng(3)
    answers = {"target": rng.random((40, 1), np.float32), "kind": rng.dirichlet((1, 1, 1), 40).astype(np.float32)}
    found = candidates(*((x, 0, 8, 8) for x in range(40)))
    backend = FakeBackend(
        kit.classifier_card(thresholds=Thresholds(target=0.5, abstain={"kind": 0.5})), lambda _: answers
    )
    targets = Classifier(backend)(kit.frame(), found)
    classes = kit.tiny.heads[0].classes
    expected = []
    for row, (confidence,) in enumerate(answers["target"]):
        best = round(float(answers["kind"][row].max()), 4)
        if round(float(confidence), 4) >= 0.5:
            label = classes[answers["kind"][row].argmax()] if best >= 0.5 else None
            expected.append((row, round(float(confidence), 4), label, best))
    said = [(t.box.x, t.confidence, t.attributes["kind"].label, t.attributes["kind"].confidence) for t in targets]
    assert said == expected and 5 < len(said) < 35


def test_each_row_keeps_its_own_heading(kit):
    space, count = load_label_space("suas"), 12
    answers = {name: np.ones((count, size), np.float32) for name, size in expected_outputs(space).items()}
    answers["target"][::3] = 0  # rejected
    radians = np.arange(count) / 2
    answers["heading"] = np.stack([np.sin(radians), -np.cos(radians)], axis=1).astype(np.float32)
    backend = FakeBackend(kit.classifier_card(label_space=space), lambda crops: answers)
    targets = Classifier(backend)(kit.frame(), candidates(*((x, 0, 8, 8) for x in range(count))))
    expected = [(row, round(math.degrees(row / 2), 1)) for row in range(count) if row % 3]
    assert [(target.box.x, target.attributes["orientation"].degrees) for target in targets] == expected


def test_probabilities_come_in_the_label_spaces_order_whatever_the_models(kit):
    space = load_label_space("suas")
    card = kit.classifier_card(label_space=space)
    card = msgspec.structs.replace(card, outputs=card.outputs[::-1])
    answers = {spec.name: np.ones((1, spec.shape[-1]), np.float32) for spec in card.outputs}
    classify = Classifier(FakeBackend(card, lambda crops: answers))
    classify(kit.frame(), candidates((0, 0, 8, 8)))
    assert list(classify.probabilities) == [*(head.name for head in space.heads), "heading"]


@pytest.mark.parametrize(("value", "said"), [(1.0000001, 1.0), (1.001, 1.0), (-0.001, 0.0)])
def test_probabilities_stay_within_0_and_1(kit, value, said):
    (target,) = Classifier(answering(kit, value, [value] * 3), conf=0)(kit.frame(), candidates((0, 0, 8, 8)))
    assert target.confidence == target.attributes["kind"].confidence == said


def test_suas_has_its_heads_in_order_and_a_heading(kit, suas_models):
    with open_backend(suas_models / "classifier.onnx") as backend:
        (target,) = Classifier(backend)(kit.frame(64, 48, (8, 8, 16, RED)), candidates((8, 8, 16, 16)))
    assert list(target.attributes) == ["shape", "letter", "shape_color", "letter_color", "orientation"]
    assert target.attributes["letter"].label == "A"
    orientation = target.attributes["orientation"]
    assert (orientation.label, orientation.degrees, orientation.confidence) == ("NE", 36.9, 1.0)


@pytest.mark.parametrize(
    ("x", "y", "label", "degrees"),
    [(0, -1, "N", 0), (1, 0, "E", 90), (0, 1, "S", 180), (-1, 0, "W", 270), (-0.5, -0.5, "NW", 315)],
)
def test_heading_is_clockwise_from_image_up(x, y, label, degrees):
    attribute = heading_attribute(np.array([x, y], np.float32), HEADING)
    assert (attribute.label, attribute.degrees) == (label, degrees)
    assert attribute.confidence == pytest.approx(math.hypot(x, y), abs=1e-4)


@given(angle=st.floats(-720, 720), length=st.floats(0, 1.5))
def test_heading_is_always_in_range_and_in_its_sector(angle, length):
    radians = math.radians(angle)
    vector = np.array([length * math.sin(radians), -length * math.cos(radians)], np.float32)
    attribute = heading_attribute(vector, HEADING)
    assert 0 <= attribute.degrees < 360 and 0 <= attribute.confidence <= 1
    centre = 45 * HEADING.sectors.index(attribute.label)
    assert abs((attribute.degrees - centre + 180) % 360 - 180) <= 22.5 + 0.06  # degrees are rounded
    if length > 0.01:
        assert abs((attribute.degrees - angle + 180) % 360 - 180) < 0.1


def test_a_hair_left_of_up_is_0_degrees():
    radians = math.radians(359.97)
    attribute = heading_attribute(np.array([math.sin(radians), -math.cos(radians)], np.float32), HEADING)
    assert (attribute.label, attribute.degrees) == ("N", 0)


def test_a_short_heading_is_withheld():
    assert heading_attribute(np.array([0.2, 0], np.float32), HEADING, 0.3).label is None


def test_a_head_without_heading_has_no_degrees_in_its_json(kit):
    (target,) = Classifier(answering(kit, 1, [1, 0, 0]))(kit.frame(), candidates((0, 0, 8, 8)))
    assert msgspec.to_builtins(target)["attributes"] == {"kind": {"label": "plain", "confidence": 1.0}}


def test_a_segmenter_is_no_classifier(kit):
    with pytest.raises(ModelError, match=r"seg\.onnx is a segmenter; give it as --segmenter"):
        Classifier(FakeBackend(kit.segmenter_card(), lambda frame: {}, "seg.onnx"))


def test_outputs_must_be_those_of_the_label_space(kit):
    card = kit.classifier_card()
    without = msgspec.structs.replace(card, outputs=card.outputs[:-1])
    with pytest.raises(ModelError, match="the outputs of the classifier fake"):
        Classifier(FakeBackend(without, lambda crops: {}))
    assert expected_outputs(load_label_space("suas")) == {
        "target": 1,
        "shape": 13,
        "letter": 36,
        "shape_color": 10,
        "letter_color": 10,
        "heading": 2,
    }
