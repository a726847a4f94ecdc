from dataclasses import fields

from aerial_export.parity import Limits, OutputReport, ParityReport
from aerial_export.parity_report import LIMIT_TEXTS, report_block, table


def test_a_table_is_aligned():
    assert table([("a", "bbb"), ("cc", "d")]).splitlines() == ["| a  | bbb |", "|----|-----|", "| cc | d   |"]


def test_heads_have_labels_and_their_sum():
    outputs = [OutputReport("letter", 0.01, 0.001, compared=200, agreeing=199), OutputReport("heading", 0.1, 0.02)]
    block = report_block(ParityReport("m.onnx", "fp16", "CPU", 3, outputs))
    assert block.startswith("m.onnx (fp16, CPU), 3 inputs: within the limits\n\n| output")
    assert "| letter     | 0.01000       | 0.001000   | 99.50 % of 200 |" in block
    assert "| all labels |               |            | 99.50 % of 200 |" in block


def test_masks_have_areas_and_targets():
    output = OutputReport(
        "probability", 3, 0.5, cells=0.9995, alike=0.9999, iou=0.998, targets=20, recall=0.9, reference_recall=0.95
    )
    block = report_block(ParityReport("m.onnx", "fp16", "CPU", 3, [output], ["it is wrong", "and so"]))
    assert "outside the limits: it is wrong (and 1 more)" in block
    assert "| 99.950 %           | 99.990 %   | 0.9980 | 90.0 % of 20  | 95.0 % of 20 |" in block


def test_every_limit_is_explained():
    assert list(LIMIT_TEXTS) == [field.name for field in fields(Limits)]
