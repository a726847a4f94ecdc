"""The checks that every engine shares, seen through the fake backend."""

from __future__ import annotations

import numpy as np
import pytest

from aerial_runtime.backends.fake import FakeBackend
from aerial_runtime.card import TensorSpec
from aerial_runtime.errors import ModelError


def test_hands_on_what_fits_the_card(kit):
    backend = FakeBackend(kit.segmenter_card(), lambda frame: {"probability": frame[:, ::4, ::4, 0]})
    outputs = backend.infer(np.full((1, 8, 12, 3), 7, np.uint8))
    assert outputs["probability"].tolist() == [[[7, 7, 7], [7, 7, 7]]]


@pytest.mark.parametrize(
    "frame", [np.zeros((1, 8, 8, 3), np.float32), np.zeros((8, 8, 3), np.uint8), np.zeros((2, 8, 8, 3), np.uint8)]
)
def test_refuses_an_input_of_another_type_or_shape(kit, frame):
    backend = FakeBackend(kit.segmenter_card(), lambda frame: {}, name="seg.onnx")
    with pytest.raises(ModelError, match=r"seg.onnx takes 'frame' as uint8 \[1, height, width, 3\], but was given"):
        backend.infer(frame)


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ({}, "no output 'probability'"),
        ({"probability": np.zeros((1, 2, 2), np.float32)}, "computed float32"),
        ({"probability": np.zeros((2, 2), np.uint8)}, r"computed uint8 \[2, 2\]"),
    ],
)
def test_refuses_an_output_that_the_card_does_not_promise(kit, output, reason):
    with pytest.raises(ModelError, match=reason):
        FakeBackend(kit.segmenter_card(), lambda frame: output).infer(np.zeros((1, 8, 8, 3), np.uint8))


def test_an_axis_of_one_name_has_one_size(kit):
    answers = {"kind": np.ones((3, 3), np.float32), "target": np.ones((2, 1), np.float32)}
    with pytest.raises(ModelError, match="'kind'"):
        FakeBackend(kit.classifier_card(), lambda crops: answers).infer(np.zeros((2, 16, 16, 3), np.uint8))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_names_model_and_output_of_a_nan(kit, value):
    answers = {"kind": np.ones((1, 3), np.float32), "target": np.full((1, 1), value, np.float32)}
    with pytest.raises(ModelError, match=r"cls.onnx computed NaN or infinity in its output 'target'"):
        FakeBackend(kit.classifier_card(), lambda crops: answers, "cls.onnx").infer(np.zeros((1, 16, 16, 3), np.uint8))


def test_refuses_a_card_with_two_inputs(kit):
    card = kit.segmenter_card(inputs=(TensorSpec("a", "uint8", (1,)), TensorSpec("b", "uint8", (1,))))
    with pytest.raises(ModelError, match="lists 2 inputs"):
        FakeBackend(card, lambda frame: {})
