import subprocess
import sys

import numpy as np
import pytest

from aerial_export.demo_inputs import demo_inputs


def test_windows_hold_targets_where_the_truth_says(kit):
    """What lies in a box differs from the ground around the window: boards do."""
    inputs = demo_inputs(kit.segmenter_card())
    assert len(inputs) > 40 and {item.images.shape for item in inputs} == {(1, 270, 480, 3)}
    assert all(item.is_scene and item.truth for item in inputs)
    apart = []
    for item in inputs:
        for label in item.truth:
            assert label.truncated or (label.x >= 0 and label.y >= 0 and label.x + label.w <= 480)
            if label.scored:
                middle = item.images[0, label.y + label.h // 4 : label.y + label.h * 3 // 4, label.x + label.w // 2]
                apart.append(np.abs(middle.mean(axis=0) - np.median(item.images[0], axis=(0, 1))).max())
    assert len(apart) > 50 and np.median(apart) > 40


def test_crops_are_cut_as_in_flight_and_none_is_another(kit):
    inputs = demo_inputs(kit.classifier_card())
    sizes = [len(item.images) for item in inputs]
    assert sum(sizes) > 2000 and set(sizes[:-1]) == {100}
    crops = np.concatenate([item.images for item in inputs])
    assert crops.shape[1:] == (16, 16, 3)
    assert len(np.unique(crops.reshape(len(crops), -1), axis=0)) > 0.95 * len(crops)


@pytest.mark.parametrize("name", ["s", "c"])
def test_an_export_without_what_draws_scenes_takes_them_and_says_so(exported, tmp_path, name):
    program = (
        "import sys\nfor name in ('torch', 'PIL', 'lightning'): sys.modules[name] = None\n"
        "from aerial_export.cli import main\n"
        f"sys.exit(main([{str(exported / (name + '.onnx'))!r}, '-o', {str(tmp_path / 'm.onnx')!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "PIL is not installed): the demo flight's take their place" in done.stdout
    assert (tmp_path / "m.fp16.onnx").is_file()
