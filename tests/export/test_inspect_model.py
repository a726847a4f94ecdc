import hashlib

import pytest

from aerial_export.inspect_model import card_lines, inspect
from aerial_runtime.errors import InputError


def rows(text):
    return {line.split()[0] if line[0] != " " else line.strip().split()[0]: line for line in text.splitlines()}


@pytest.mark.parametrize(("name", "precision"), [("s.onnx", "fp32"), ("s.fp16.onnx", "fp16")])
def test_a_graph(exported, name, precision):
    text = inspect(exported / name, (640, 480))
    data = (exported / name).read_bytes()
    found = rows(text)
    assert f"{name}, {len(data):,} bytes" in found["file"]
    assert hashlib.sha256(data).hexdigest() in found["sha256"]
    assert f"{precision}, opset 18, IR 10" in found["graph"]
    assert "k parameters" in found["cost"] and "MMAC for a 640x480 frame" in found["cost"]
    assert "frame uint8 [1, height, width, 3]" in text and "segmenter 's', label space 'suas'" in text
    assert "36: A B C" in found["letter"] and "8: N NE" in found["orientation"]
    assert hashlib.sha256((exported / "s.pt").read_bytes()).hexdigest() in text  # its ancestor
    assert "torch" in text if precision == "fp32" else "made of onnx" in text


def test_a_classifier_costs_by_the_crop(exported):
    text = inspect(exported / "c.onnx", (640, 480))
    assert "MMAC for a crop" in text and "crops of 24 px, margin 1.3\n" in text and "shape float32 [crops, 13]" in text


def test_what_is_no_model_is_refused(tmp_path, exported):
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "cut.onnx").write_bytes((exported / "c.onnx").read_bytes()[:5000])
    for name, message in (("a.txt", "no model file"), ("none.onnx", "cannot read"), ("cut.onnx", "truncated")):
        with pytest.raises(InputError, match=message):
            inspect(tmp_path / name, (640, 480))


def test_views_are_told(kit):
    assert ("framing", "crops of 16 px, margin 1, 4 views") in card_lines(kit.classifier_card(views=4))
