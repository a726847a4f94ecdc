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
from aerial_runtime.errors import ModelError, UsageError
from aerial_runtime.pipeline import DetectOptions, Pipeline

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


def test_options_reach_both_models(kit, tiny_models):
    frame = framed(kit.frame(640, 480, (8, 4, 8, RED), (32, 4, 8, DIM), (248, 28, 16, PINK), (500, 400, 40, RED)))

    def boxes(**options):
        with open_backend(tiny_models / "segmenter.onnx") as one, open_backend(tiny_models / "classifier.onnx") as two:
            result = Pipeline(one, two, options=DetectOptions(**options))(frame)
        return [target.box.x for target in result.targets], result.candidates, result.cut

    assert boxes() == ([8, 248, 500], 4, 0)
    assert boxes(tile=(128, 128), overlap_px=16) == ([8, 248, 500], 4, 0)
    with pytest.raises(UsageError, match="--tile 128x128 is too small for an overlap of 192 px"):
        boxes(tile=(128, 128))
    assert boxes(conf=0.0) == ([8, 32, 248, 500], 4, 0)
    assert boxes(mask_threshold=0.7) == ([8, 500], 2, 0)
    assert boxes(min_size_px=10) == ([248, 500], 2, 0)
    assert boxes(max_size_px=20) == ([8, 248], 3, 0)
    assert boxes(max_candidates=2) == ([8, 500], 2, 2)
    with pytest.raises(UsageError, match="the nearest is 'kind'"):
        boxes(abstain={"kin": 0.5})


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"conf": 1.1}, "--conf cannot be 1.1; give a number within 0..1"),
        ({"conf": float("nan")}, "--conf cannot be nan"),
        ({"mask_threshold": -0.1}, "--mask-threshold cannot be -0.1"),
        ({"abstain": {"letter": 0.5, "shape": 40}}, "--abstain shape cannot be 40"),
        ({"max_candidates": 0}, "--max-candidates cannot be 0"),
        ({"min_size_px": -1}, "--min-size cannot be -1"),
        ({"max_size_px": 0}, "--max-size cannot be 0"),
        ({"min_size_px": 30, "max_size_px": 29}, "--max-size cannot be 29 beside a --min-size of 30"),
    ],
)
def test_options_that_cannot_be(options, reason):
    with pytest.raises(UsageError, match=reason):
        DetectOptions(**options)


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
