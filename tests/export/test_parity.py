import numpy as np
import pytest

from aerial_export.parity import Golden, check_parity, compare, probe_crops, probe_frames
from aerial_runtime.errors import CheckError


class Answers:
    """A backend that says what it is told to."""

    def __init__(self, outputs):
        self.outputs = outputs

    def infer(self, _images):
        return self.outputs


def judged(name, seen, answer):
    images = np.zeros((1, 4, 4, 3), np.uint8)
    return check_parity(Answers({name: seen}), [Golden("case", images, {name: answer})])


def mask(value=100):
    return np.full((1, 100, 100), value, np.uint8)


def test_masks_may_differ_by_two_levels_anywhere():
    report = judged("probability", mask(102), mask(100))
    assert report.outputs[0].max_error == 2 and report.outputs[0].agreement == 1
    assert "probability" in str(report) and "100.00 %" in str(report)


def test_masks_may_differ_more_on_one_cell_of_a_thousand():
    seen = mask()
    seen[0, 0, :10] = 200
    assert judged("probability", seen, mask()).outputs[0].agreement == pytest.approx(0.999)
    seen[0, 1, 0] = 103
    with pytest.raises(CheckError, match=r"probability of the input 'case'.*99\.89 %"):
        judged("probability", seen, mask())


def test_uint8_differences_do_not_wrap_around():
    assert compare("probability", mask(0), mask(255)).max_error == 255
    assert compare("probability", mask(255), mask(0)).max_error == 255


def test_probabilities_may_differ_by_a_thousandth():
    answer = np.array([[0.7, 0.3]], np.float32)
    judged("letter", answer + np.float32(0.0009), answer)
    with pytest.raises(CheckError, match="letter"):
        judged("letter", answer + np.float32(0.0011), answer)


def test_labels_must_be_the_same_however_near_the_probabilities():
    answer, seen = np.array([[0.5001, 0.4999]], np.float32), np.array([[0.4999, 0.5001]], np.float32)
    with pytest.raises(CheckError, match=r"agreement 0\.00 %"):
        judged("letter", seen, answer)
    with pytest.raises(CheckError, match="target"):
        judged("target", np.array([[0.4999]], np.float32), np.array([[0.5001]], np.float32))


def test_headings_have_no_label():
    judged("heading", np.array([[0.1, 0.1001]], np.float32), np.array([[0.1001, 0.1]], np.float32))
    with pytest.raises(CheckError, match="heading"):
        judged("heading", np.array([[0.1, 0.2]], np.float32), np.array([[0.2, 0.1]], np.float32))


@pytest.mark.parametrize("seen", [mask()[:, :99], mask().astype(np.float32)], ids=["shape", "dtype"])
def test_shape_and_dtype_must_be_the_same(seen):
    with pytest.raises(CheckError, match=r"PyTorch's is uint8 \[1, 100, 100\]"):
        judged("probability", seen, mask())


def test_the_worst_of_all_inputs_is_reported():
    images = np.zeros((1, 4, 4, 3), np.uint8)
    goldens = [Golden(str(value), images, {"probability": mask(value)}) for value in (100, 102, 101)]
    report = check_parity(Answers({"probability": mask(100)}), goldens)
    assert (report.inputs, report.outputs[0].max_error) == (3, 2)


def test_probes_cover_odd_sizes_and_batches():
    sizes = {frame.shape[1:3] for _, frame in probe_frames()}
    assert {(333, 517), (37, 41), (1, 1)} <= sizes
    assert {0, 255} <= {int(frame.min()) for _, frame in probe_frames() if frame.min() == frame.max()}
    assert [batch.shape[0] for _, batch in probe_crops(16)] == [1, 16, 2]
