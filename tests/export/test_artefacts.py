"""Whole exports of small networks: all files or none."""

import hashlib
import resource
import signal
import subprocess
import sys
from functools import partial

import numpy as np
import onnx
import onnxruntime
import pytest

import aerial_export.artefacts
from aerial_export.artefacts import artefact_names, export_model
from aerial_export.cli import main
from aerial_export.goldens import goldens_beside
from aerial_runtime.backends import open_backend
from aerial_runtime.card import CARD_METADATA_KEY, card_from_json
from aerial_runtime.errors import CheckError, ModelError, ResourceError, UsageError
from aerial_train.checkpoint import load_checkpoint

RNG = np.random.default_rng(1)


@pytest.fixture
def export(quick_scenes):
    return partial(export_model, progress=lambda _: None, draw=quick_scenes)


def card_of(path):
    (item,) = onnx.load(path).metadata_props
    assert item.key == CARD_METADATA_KEY
    return card_from_json(item.value, str(path))


@pytest.mark.parametrize("kind", ["segmenter", "classifier"])
def test_a_checkpoint_becomes_a_set_that_says_where_it_comes_from(
    kind, save_segmenter, save_classifier, tmp_path, quick_build, quick_scenes
):
    source = save_segmenter() if kind == "segmenter" else save_classifier()
    lines = []
    written = export_model(source, tmp_path / "new" / "m.onnx", progress=lines.append, draw=quick_scenes)
    assert sorted(path.name for path in written) == sorted(artefact_names("m"))
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(artefact_names("m"))
    fp32, fp16 = card_of(tmp_path / "new" / "m.onnx"), card_of(tmp_path / "new" / "m.fp16.onnx")
    sha = {name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in ("model.pt", "new/m.onnx")}
    assert fp32.artefact.ancestors == {"checkpoint": sha["model.pt"]}
    assert fp16.artefact.ancestors == {"checkpoint": sha["model.pt"], "onnx": sha["new/m.onnx"]}
    assert (fp32.precision, fp16.precision, fp16.artefact.opset) == ("fp32", "fp16", 18)
    assert {"aerial", "torch", "onnx"} <= fp32.artefact.tools.keys()
    goldens = goldens_beside(tmp_path / "new" / "m.onnx", fp32)
    assert goldens.onnx_sha256 == sha["new/m.onnx"] and goldens.reference.startswith("PyTorch 2")
    said = "\n".join(lines)
    assert "m.onnx (fp32" in said and "m.fp16.onnx (fp16" in said and "each value rounded" in said
    assert "perturbed weights (fp16 limits)" in said
    page = (tmp_path / "new" / "m.parity.md").read_text()
    assert "PyTorch 2" in page and sha["new/m.onnx"] in page and "m.parity.jpg" in page and str(tmp_path) not in page


def test_without_fp16_the_fp32_file_is_proven_alone(save_classifier, tmp_path, quick_build, export, monkeypatch):
    monkeypatch.setattr(aerial_export.artefacts, "half_of", None)  # what FP16 makes of the weights is not looked at
    lines = []
    written = export(save_classifier(), tmp_path / "m.onnx", progress=lines.append, fp16=False)
    assert sorted(path.name for path in written) == sorted(set(artefact_names("m")) - {"m.fp16.onnx"})
    said = "\n".join(lines)
    assert "m.onnx (fp32" in said and "fp16" not in said and "perturbed weights (fp32 limits)" in said
    assert "m.fp16.onnx" not in (tmp_path / "m.parity.md").read_text()
    export(tmp_path / "m.onnx", tmp_path / "m.onnx", fp16=False)
    assert not (tmp_path / "m.fp16.onnx").exists()


def test_an_onnx_file_is_its_own_reference_and_stays_as_it_is(save_classifier, tmp_path, quick_build, export):
    export(save_classifier(), tmp_path / "a" / "m.onnx")
    before = (tmp_path / "a" / "m.onnx").read_bytes()
    inode = (tmp_path / "a" / "m.onnx").stat().st_ino
    written = export(tmp_path / "a" / "m.onnx", tmp_path / "a" / "m.onnx")
    assert "m.onnx" not in [path.name for path in written]
    assert ((tmp_path / "a" / "m.onnx").read_bytes(), (tmp_path / "a" / "m.onnx").stat().st_ino) == (before, inode)
    goldens = goldens_beside(tmp_path / "a" / "m.fp16.onnx", card_of(tmp_path / "a" / "m.fp16.onnx"))
    assert goldens.reference == f"its FP32 file by ONNX Runtime {onnxruntime.__version__}"
    export(tmp_path / "a" / "m.onnx", tmp_path / "b" / "n.onnx")
    assert (tmp_path / "b" / "n.onnx").read_bytes() == before
    assert (tmp_path / "b" / "n.fp16.onnx").read_bytes() == (tmp_path / "a" / "m.fp16.onnx").read_bytes()


def test_an_fp16_file_is_no_source(save_classifier, tmp_path, quick_build, export):
    export(save_classifier(), tmp_path / "m.onnx")
    with pytest.raises(UsageError, match=r"m\.fp16\.onnx is fp16 already; give the FP32 file"):
        export(tmp_path / "m.fp16.onnx", tmp_path / "n.onnx")


def test_an_fp16_file_that_is_wrong_is_not_kept(save_segmenter, tmp_path, monkeypatch, quick_build, export):
    source = save_segmenter()
    (tmp_path / "m.fp16.onnx").write_bytes(b"the one of last week")
    real = aerial_export.artefacts.to_fp16

    def coarse(model):
        half = real(model)
        for tensor in half.graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT16 and len(tensor.dims) == 4:
                values = onnx.numpy_helper.to_array(tensor) * np.float16(1.02)
                tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        return half

    monkeypatch.setattr(aerial_export.artefacts, "to_fp16", coarse)
    with pytest.raises(CheckError, match=r"m\.fp16\.onnx compared with PyTorch .* is outside the limits"):
        export(source, tmp_path / "m.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.fp16.onnx", "model.pt"]
    assert (tmp_path / "m.fp16.onnx").read_bytes() == b"the one of last week"


def test_a_blind_gate_lets_nothing_through(save_classifier, tmp_path, monkeypatch, quick_build, export):
    source = save_classifier()
    monkeypatch.setattr(aerial_export.artefacts, "PERTURBATION", 0.0)
    with pytest.raises(CheckError, match="proves nothing"):
        export(source, tmp_path / "m.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


@pytest.mark.parametrize(("content", "message"), [
    (lambda data: data[: len(data) // 2], "is truncated or no ONNX model"),
    (lambda data: b"", "is truncated or no ONNX model"),
    (lambda data: data.replace(b"aerial.card/1", b"aerial.card/7"), "is of the version 'aerial.card/7', this program"),
    (lambda data: data.replace(b"aerial.card", b"aerial.dart"), "holds no model card"),
])  # fmt: skip
def test_bad_onnx_files_are_refused(save_segmenter, tmp_path, quick_build, content, message, export):
    folder = tmp_path / "in"
    export(save_segmenter(), folder / "m.onnx")
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(content((folder / "m.onnx").read_bytes()))
    with pytest.raises(ModelError, match=message) as caught:
        export(bad, tmp_path / "out" / "m.onnx")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_file_where_a_folder_should_be(save_segmenter, tmp_path, quick_build, export):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="cannot write into"):
        export(save_segmenter(), tmp_path / "file" / "m.onnx")


def test_a_disk_that_is_full_keeps_the_old_files(save_classifier, tmp_path, quick_build, export):
    """The limit on the size of files is the process's own: the write fails as it does on a full disk."""
    source = save_classifier()
    export(source, tmp_path / "m.onnx")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before["m.fp16.onnx"]) // 2, hard))
        with pytest.raises(ResourceError, match=r"cannot write into .* \(File too large\), what was there"):
            export(source, tmp_path / "m.onnx")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_interrupt_keeps_the_old_files(save_classifier, tmp_path, monkeypatch, quick_build, export):
    source = save_classifier()
    (tmp_path / "m.onnx").write_bytes(b"old")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(aerial_export.artefacts, "report_page", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export(source, tmp_path / "m.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx", "model.pt"]
    assert (tmp_path / "m.onnx").read_bytes() == b"old"


def test_sigterm_leaves_nothing_beside_the_old_files(
    save_classifier, tmp_path, monkeypatch, quick_build, quick_scenes, capsys
):
    source = save_classifier()

    def terminated(*_):
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(aerial_export.artefacts, "check_control", terminated)
    monkeypatch.setattr(aerial_export.artefacts.export_model, "__defaults__", (quick_scenes,))
    assert main([str(source), "-o", str(tmp_path / "m.onnx")]) == 143
    assert capsys.readouterr().err == "aerial-export: interrupted\n"
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


def test_an_onnx_file_needs_no_torch(save_classifier, tmp_path, quick_build, export):
    export(save_classifier(), tmp_path / "m.onnx")
    program = (
        "import sys; sys.modules['torch'] = None; from pathlib import Path; import aerial_export.golden_inputs as g\n"
        "import aerial_train.scenes.backgrounds as b; from aerial_export.artefacts import export_model\n"
        "g.CROPS, b.TERRAIN_PICTURES = 100, 2\n"
        f"export_model(Path({str(tmp_path / 'm.onnx')!r}), Path({str(tmp_path / 'n.onnx')!r}), print)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0 and "same labels" in done.stdout, done.stderr
    assert (tmp_path / "n.fp16.onnx").is_file()


def test_both_files_answer_alike_and_not_the_same(save_segmenter, tmp_path, quick_build, export):
    source = save_segmenter()
    export(source, tmp_path / "m.onnx")
    frame = RNG.integers(0, 256, (1, 90, 150, 3), dtype=np.uint8)
    answers = []
    for name in ("m.onnx", "m.fp16.onnx"):
        with open_backend(tmp_path / name, "cpu") as backend:
            answers.append(backend.infer(frame)["probability"].astype(int))
            assert backend.card.weights_sha256 == load_checkpoint(source).card.weights_sha256
    assert np.abs(answers[0] - answers[1]).max() <= 6 and answers[0].std() > 5
