from aerial_export.inspect_checkpoint import inspect_checkpoint
from aerial_export.inspect_model import inspect


def test_a_checkpoint_is_described_as_its_graph_is(exported):
    ours, graphs = inspect_checkpoint(exported / "s.pt", (640, 480)), inspect(exported / "s.onnx", (640, 480))
    work = [
        next(line for line in text.splitlines() if line.startswith("cost")).split(", ")[1] for text in (ours, graphs)
    ]
    assert work[0] == work[1] and "MMAC for a 640x480 frame" in work[0]
    assert "s.pt, " in ours and "segmenter 's', label space 'suas'" in ours


def test_a_classifier_costs_by_the_crop(exported):
    assert "MMAC for a crop" in inspect_checkpoint(exported / "c.pt", (640, 480))
