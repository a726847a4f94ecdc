import numpy as np
import pytest

from aerial_export.goldens import Golden, GoldenSet
from aerial_export.parity import LIMITS, check_control, check_parity
from aerial_runtime.backends.fake import FakeBackend
from aerial_runtime.card import Head, LabelSpace, ModelCard, TensorSpec
from aerial_runtime.errors import CheckError
from aerial_runtime.label_file import LabelledBox

SPACE = LabelSpace("pads", (Head("letter", ("a", "b")),))
SEGMENTER = ModelCard(
    kind="segmenter", name="m", label_space=SPACE, crop_margin=1.3, stride=4,
    inputs=(TensorSpec("frame", "uint8", (1, "height", "width", 3)),),
    outputs=(TensorSpec("probability", "uint8", (1, "rows", "columns")),),
)  # fmt: skip
CLASSIFIER = ModelCard(
    kind="classifier", name="m", label_space=SPACE, crop_margin=1.3, crop_size=8,
    inputs=(TensorSpec("crops", "uint8", ("crops", 8, 8, 3)),),
    outputs=tuple(TensorSpec(name, "float32", ("crops", k)) for name, k in (("letter", 2), ("target", 1))),
)  # fmt: skip
FRAME = np.zeros((1, 400, 400, 3), np.uint8)


def mask(value=100):
    return np.full((1, 100, 100), value, np.uint8)


def judged_mask(seen, answer, precision="fp32", truth=(), others=()):
    """The report of a segmenter that answers `seen`; others: more pairs of (seen, answer)."""
    pairs = [(seen, answer), *others]
    goldens = [Golden(f"case {i}", FRAME, {"probability": a}, {}, truth=truth) for i, (_, a) in enumerate(pairs)]
    answers = iter([{"probability": s} for s, _ in pairs])
    backend = FakeBackend(SEGMENTER, lambda _: next(answers))
    return check_parity(backend, GoldenSet("PyTorch", "", "", tuple(goldens)), precision)


def judged_heads(seen, answer, precision="fp32", is_scene=True):
    """The report of a classifier; seen, answer: letter [N, 2]; target is always the same."""
    target = np.full((len(answer), 1), 0.9, np.float32)
    crops = np.zeros((len(answer), 8, 8, 3), np.uint8)
    seen, answer = (np.asarray(values, np.float32) for values in (seen, answer))
    golden = Golden("case", crops, {"letter": answer, "target": target}, {}, is_scene=is_scene)
    backend = FakeBackend(CLASSIFIER, lambda _: {"letter": seen, "target": target})
    return check_parity(backend, GoldenSet("PyTorch", "", "", (golden,)), precision)


@pytest.mark.parametrize(("precision", "levels"), [("fp32", 2), ("fp16", 6)])
def test_masks_may_differ_a_little_anywhere(precision, levels):
    assert LIMITS[precision].mask_levels == levels
    report = judged_mask(mask(100 + levels), mask(100), precision)
    assert not report.failures and report.outputs[0].max_error == levels
    assert judged_mask(mask(101 + levels), mask(100), precision).failures


def test_masks_may_differ_more_on_one_cell_of_a_thousand():
    seen = mask()
    seen[0, 0, :10] = 110
    assert judged_mask(seen, mask()).outputs[0].cells == pytest.approx(0.999)
    assert not judged_mask(seen, mask()).failures
    seen[0, 1, 0] = 103
    (failure,) = judged_mask(seen, mask()).failures
    assert "99.89 % of the cells of probability for the input 'case 0'" in failure


def test_one_bad_input_among_good_ones_is_named():
    report = judged_mask(mask(), mask(), others=[(mask(110), mask())])
    assert "'case 1'" in report.failures[0] and report.outputs[0].mean_error == 5


def test_uint8_differences_do_not_wrap_around():
    assert judged_mask(mask(0), mask(255)).outputs[0].max_error == 255
    assert judged_mask(mask(255), mask(0)).outputs[0].max_error == 255


def test_the_area_of_the_masks_must_be_the_same():
    """A difference of two levels at the threshold is within the limit of levels and turns every cell."""
    report = judged_mask(mask(129), mask(127))
    assert (report.outputs[0].iou, report.outputs[0].alike) == (0, 0)
    assert report.failures == ["the masks' IoU is 0.0000, must be at least 0.998"]
    assert judged_mask(mask(0), mask(1)).outputs[0].iou == 1  # nothing in either


def test_targets_that_get_lost_are_counted():
    truth = tuple(LabelledBox(40 * i, 40, 20, 20) for i in range(5))
    answer = np.zeros((1, 100, 100), np.uint8)
    for i in range(5):
        answer[0, 10:15, 10 * i : 10 * i + 5] = 200
    assert judged_mask(answer, answer, truth=truth).outputs[0].recall == 1
    seen = answer.copy()
    seen[0, 10:15, 20:25] = 0
    report = judged_mask(seen, answer, "fp16", truth=truth)
    output = report.outputs[0]
    assert (output.targets, output.recall, output.reference_recall) == (5, 0.8, 1.0)
    assert any("finds 4 of 5 targets, the reference 5" in failure for failure in report.failures)


def test_probabilities_may_differ_by_the_limit():
    answer = np.tile([[0.7, 0.3]], (20, 1))
    off = np.zeros((20, 2))
    off[0] = 0.0009
    assert not judged_heads(answer + off, answer).failures
    off[0] = 0.0011
    (failure,) = judged_heads(answer + off, answer).failures
    assert failure.startswith("letter is off by 0.0011 for the input 'case'")
    assert not judged_heads(answer + off, answer, "fp16").failures


def test_the_mean_counts_too():
    answer = np.tile([[0.7, 0.3]], (20, 1))
    (failure,) = judged_heads(answer + 0.0005, answer).failures
    assert "on average" in failure


def test_labels_must_be_the_same_however_near_the_probabilities():
    answer = np.tile([[0.7, 0.3]], (500, 1))
    answer[:2] = 0.50001, 0.49999
    seen = answer.copy()
    seen[0] = seen[0, ::-1]
    report = judged_heads(seen, answer)
    assert (report.agreeing, report.compared) == (999, 1000) and not report.failures
    seen[1] = seen[1, ::-1]
    assert judged_heads(seen, answer).failures == ["998 of 1000 labels are the same, at least 99.9 % must be"]
    assert judged_heads(seen, answer, is_scene=False).compared == 0  # on noise a label means nothing


def test_whether_a_crop_is_a_target_is_decided_at_the_cards_threshold():
    crops = np.zeros((1, 8, 8, 3), np.uint8)
    letter = np.array([[0.7, 0.3]], np.float32)
    right, seen = np.array([[0.5001]], np.float32), np.array([[0.4999]], np.float32)
    golden = Golden("case", crops, {"letter": letter, "target": right}, {}, is_scene=True)
    backend = FakeBackend(CLASSIFIER, lambda _: {"letter": letter, "target": seen})
    report = check_parity(backend, GoldenSet("PyTorch", "", "", (golden,)), "fp32")
    assert (report.agreeing, report.compared) == (1, 2)


def test_shapes_must_be_those_of_the_reference():
    with pytest.raises(CheckError, match=r"is uint8 \[1, 100, 99\], must be uint8 \[1, 100, 100\]"):
        judged_mask(mask()[:, :, :99], mask())


def test_the_control_must_fail():
    golden = Golden("case", FRAME, {"probability": mask(100)}, {"probability": mask(180)})
    goldens = GoldenSet("PyTorch", "", "", (golden,))
    assert check_control(SEGMENTER, goldens, "fp16").failures
    blind = GoldenSet("PyTorch", "", "", (Golden("case", FRAME, {"probability": mask(0)}, {"probability": mask(1)}),))
    with pytest.raises(CheckError, match="proves nothing"):
        check_control(SEGMENTER, blind, "fp16")


def test_a_report_says_the_first_failure_and_how_many_more():
    report = judged_mask(mask(255), mask(0))
    with pytest.raises(CheckError, match=r"fake compared with PyTorch is outside .*\(and 1 more\); do not fly it"):
        report.require("PyTorch")
    judged_mask(mask(), mask()).require("PyTorch")
