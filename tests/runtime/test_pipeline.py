"""A frame through both models; which models belong together."""

from __future__ import annotations

from contextlib import ExitStack

import msgspec
import numpy as np
import pytest

from aerial_runtime.backends import open_backend
from aerial_runtime.backends.fake import FakeBackend
from aerial_runtime.card import Head, LabelSpace, load_label_space
from aerial_runtime.contract import Box, Frame
from aerial_runtime.errors import ModelError
from aerial_runtime.pipeline import Pipeline

RED, PINK, DIM = (0, 0, 255), (200, 0, 255), (0, 0, 150)


@pytest.fixture
def pipeline(tiny_models):
    with ExitStack() as stack:
        segmenter = stack.enter_context(open_backend(tiny_models / "segmenter.onnx"))
        classifier = stack.enter_context(open_backend(tiny_models / "classifier.onnx"))
        yield Pipeline(segmenter, classifier)


def framed(image_bgr):
    return Frame(image_bgr, "frame", 0, 0, 0)


def test_finds_reads_and_rejects(kit, pipeline):
    result = pipeline(framed(kit.frame(64, 48, (8, 4, 8, RED), (32, 4, 8, DIM), (40, 28, 16, PINK))))
    assert [(t.box, t.attributes["kind"].label) for t in result.targets] == [
        (Box(8, 4, 8, 8), "plain"),
        (Box(40, 28, 16, 16), "pink"),
    ]
    assert (result.candidates, result.cut) == (3, 0)
    assert 0 < result.segment_ms <= result.total_ms
    assert result.total_ms == pytest.approx(result.segment_ms + result.classify_ms)


def test_an_empty_frame_is_an_answer_too(kit, pipeline):
    assert pipeline(framed(kit.frame())).targets == []


def test_sizes_may_change_from_frame_to_frame(kit, pipeline):
    for width, height in [(64, 48), (1, 1), (37, 21), (640, 480), (64, 48)]:
        frame = kit.frame(width, height, (0, 0, 8, RED))
        boxes = [target.box for target in pipeline(framed(frame)).targets]
        assert boxes == ([] if width == 1 else [Box(0, 0, 8, 8)])


def test_a_target_on_the_frames_edge_keeps_its_box_inside(kit, pipeline):
    (target,) = pipeline(framed(kit.frame(63, 47, (55, 40, 20, RED)))).targets
    assert target.box == Box(56, 40, 7, 7)


def test_does_not_write_into_the_frame(kit, pipeline):
    frame = kit.frame(64, 48, (8, 4, 8, RED))
    frame.flags.writeable = False
    assert len(pipeline(framed(frame)).targets) == 1


def test_warm_up_leaves_nothing_behind(kit, pipeline):
    frame = framed(kit.frame(64, 48, (8, 4, 8, RED)))
    before = pipeline(frame).targets
    pipeline.warm_up()
    assert pipeline(frame).targets == before


def test_carries_the_hashes_and_the_provider(pipeline):
    assert pipeline.provider == "CPUExecutionProvider"
    assert set(pipeline.models) == {"segmenter", "classifier"}
    assert all(len(value) == len("sha256:") + 64 for value in pipeline.models.values())


HEAD = Head("kind", ("plain", "pink", "orange"))


@pytest.mark.parametrize(
    ("space", "reason"),
    [
        (LabelSpace("other", (HEAD,)), "the label spaces 'tiny' and 'other' differ"),
        (LabelSpace("tiny", (HEAD, Head("size", ("s", "l")))), r"the heads \['kind'\] and \['kind', 'size'\]"),
        (LabelSpace("tiny", (Head("kind", ("pink", "plain", "orange")),)), "the classes of the head 'kind'"),
    ],
)
def test_models_of_two_label_spaces_do_not_fly_together(kit, space, reason):
    with pytest.raises(ModelError, match=reason):
        Pipeline(
            FakeBackend(kit.segmenter_card(), lambda frame: {}),
            FakeBackend(kit.classifier_card(label_space=space), lambda crops: {}),
        )


def test_a_heading_may_differ_too(kit):
    space = load_label_space("suas")
    other = msgspec.structs.replace(space, heading=msgspec.structs.replace(space.heading, half_turn=()))
    with pytest.raises(ModelError, match="the headings of the label spaces differ"):
        Pipeline(
            FakeBackend(kit.segmenter_card(label_space=other), lambda frame: {}),
            FakeBackend(kit.classifier_card(label_space=space), lambda crops: {}),
        )


def test_models_of_two_crop_margins_do_not_fly_together(kit):
    with pytest.raises(ModelError, match=r"seg and cls do not belong together: their crop margins are 1 and 1\.25"):
        Pipeline(
            FakeBackend(kit.segmenter_card(), lambda frame: {}, "seg"),
            FakeBackend(kit.classifier_card(crop_margin=1.25), lambda crops: {}, "cls"),
        )


def test_no_copy_of_the_frame_reaches_the_model(kit):
    seen = []

    def see(frame):
        seen.append(frame)
        return {"probability": np.zeros((1, 12, 16), np.uint8)}

    frame = kit.frame(64, 48)
    pipeline = Pipeline(FakeBackend(kit.segmenter_card(), see), FakeBackend(kit.classifier_card(), lambda crops: {}))
    pipeline(framed(frame))
    assert np.shares_memory(seen[0], frame)
