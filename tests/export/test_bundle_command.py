import os
import shutil
import zipfile

import cv2
import pytest

from aerial_export import bundle_command
from aerial_export.bundle_command import main
from aerial_export.verify import verify
from aerial_runtime import daemon
from aerial_runtime.bundle import Bundle
from aerial_runtime.card import Head, LabelSpace, Thresholds
from aerial_runtime.contract import Attribute, Box, Target
from aerial_runtime.errors import InputError

RED = (0, 0, 255)


def run(*words):
    return main([str(word) for word in words])


def refused(capsys, code, *words):
    assert run(*words) == code
    err = capsys.readouterr().err
    assert err.startswith("aerial-bundle: error: ") and err.count("\n") == 1
    return err


@pytest.fixture
def frame(tmp_path, kit):
    path = tmp_path / "frame.png"
    cv2.imwrite(str(path), kit.frame(64, 48, (8, 8, 16, RED), (40, 20, 12, RED)))
    return path


@pytest.fixture
def pair(tiny_models):
    return tiny_models / "segmenter.onnx", tiny_models / "classifier.onnx"


def test_a_pair_and_a_frame_become_a_bundle_that_flies(pair, frame, tmp_path, capsys):
    output = tmp_path / "new" / "tiny.aerial"
    assert run(*pair, "-o", output, "--frame", frame) == 0
    out = capsys.readouterr().out
    assert "golden frame: 2 targets by CPUExecutionProvider" in out and f"wrote {output}" in out
    bundle = Bundle(output)
    assert bundle.names == ["bundle.json", "segmenter.onnx", "classifier.onnx", "golden.png"]
    assert [target.box.x for target in bundle.manifest.golden] == [8, 40]
    assert daemon.main(["--camera", str(frame), "--models", str(output), "--bind", "none"]) == 0
    again = tmp_path / "again" / "tiny.aerial"
    assert run(*pair, "-o", again, "--frame", frame) == 0
    assert again.read_bytes() == output.read_bytes()  # no times, no paths
    assert str(tmp_path).encode() not in output.read_bytes()


def test_a_name_that_is_no_utf8_is_escaped_in_the_manifest(pair, frame, tmp_path):
    output = tmp_path / os.fsdecode(b"caf\xe9.aerial")
    assert run(*pair, "-o", output, "--frame", frame) == 0
    assert Bundle(output).manifest.name == "caf\\udce9"


def test_without_a_frame_the_one_with_the_clearest_answer_is_drawn(suas_models, tmp_path, monkeypatch):
    from aerial_train.scenes import backgrounds

    monkeypatch.setattr(backgrounds, "TERRAIN_PICTURES", 2)
    monkeypatch.setattr(bundle_command, "TRIED", 12)
    output = tmp_path / "b.aerial"
    assert run(suas_models / "segmenter.onnx", suas_models / "classifier.onnx", "-o", output) == 0
    bundle = Bundle(output)
    assert bundle.golden_frame().image_bgr.shape == (320, 384, 3)
    assert bundle.manifest.golden and output.stat().st_size < 400_000


def test_goldens_beside_the_models_travel_along(exported, frame, tmp_path, monkeypatch):
    """The random networks find nothing they are sure of, so the golden answer is made up to be empty."""
    monkeypatch.setattr(bundle_command, "_golden", lambda *_: bundle_command._Golden(cv2.imread(str(frame)), [], 1))
    output = tmp_path / "b.aerial"
    assert run(exported / "s.onnx", exported / "c.onnx", "-o", output) == 0
    assert Bundle(output).names[-2:] == ["segmenter.goldens.npz", "classifier.goldens.npz"]
    lines = []
    monkeypatch.setattr(Bundle, "check", lambda *_: None)
    verify(output, "cpu", lines.append)
    said = "\n".join(lines)
    assert "segmenter.onnx (fp32" in said and "classifier.onnx (fp32" in said and said.count("perturbed weights") == 2


def test_goldens_of_another_model_do_not_travel_along(exported, pair, frame, tmp_path, capsys):
    folder = tmp_path / "models"
    folder.mkdir()
    for path in pair:
        shutil.copy(path, folder)
    shutil.copy(exported / "s.goldens.npz", folder / "segmenter.goldens.npz")
    words = (folder / "segmenter.onnx", folder / "classifier.onnx", "-o", tmp_path / "b.aerial", "--frame", frame)
    assert "segmenter.goldens.npz belongs to other weights" in refused(capsys, 3, *words)
    assert not (tmp_path / "b.aerial").exists()


def test_verifying_a_bundle_without_goldens_says_what_was_not_checked(pair, frame, tmp_path, capsys):
    from aerial_export.cli import main as export

    assert run(*pair, "-o", tmp_path / "b.aerial", "--frame", frame) == 0
    assert export(["--verify", str(tmp_path / "b.aerial")]) == 3
    out, err = capsys.readouterr()
    assert "checksums, cards and the 2 golden targets are right" in out
    assert "holds no segmenter.goldens.npz" in err
    assert export(["--inspect", str(tmp_path / "b.aerial")]) == 0
    out = capsys.readouterr().out
    assert "golden     2 targets: plain at 8,8, plain at 40,20" in out and "sees-red" in out and "reads-colours" in out


def test_what_cannot_be_bundled(pair, exported, frame, tmp_path, kit, capsys):
    output, end = tmp_path / "b.aerial", ("--frame", frame, "-o", tmp_path / "b.aerial")
    segmenter, classifier = pair
    assert "is a classifier; give the segmenter first" in refused(capsys, 3, classifier, segmenter, *end)
    assert "none.onnx" in refused(capsys, 3, segmenter, tmp_path / "none.onnx", *end)
    (tmp_path / "cut.onnx").write_bytes(segmenter.read_bytes()[:500])
    assert "cut.onnx is not a usable ONNX model" in refused(capsys, 3, tmp_path / "cut.onnx", classifier, *end)
    assert "do not belong together" in refused(capsys, 3, segmenter, exported / "c.onnx", *end)
    assert "s.fp16.onnx is fp16; a bundle flies" in refused(capsys, 3, exported / "s.fp16.onnx", classifier, *end)
    (tmp_path / "s.engine").write_bytes(b"an engine")
    assert "s.engine is an engine; a bundle flies" in refused(capsys, 3, tmp_path / "s.engine", classifier, *end)
    assert "must end in .aerial" in refused(capsys, 2, *pair, "-o", tmp_path / "b.zip")
    cv2.imwrite(str(tmp_path / "black.png"), kit.frame(64, 48))
    assert "find no target they are sure of" in refused(
        capsys, 3, *pair, "--frame", tmp_path / "black.png", "-o", output
    )
    assert "none.png" in refused(capsys, 3, *pair, "--frame", tmp_path / "none.png", "-o", output)
    assert not output.exists()
    output.write_bytes(b"old")
    assert "--overwrite" in refused(capsys, 2, *pair, *end)
    assert "none.onnx" in refused(capsys, 3, segmenter, tmp_path / "none.onnx", *end, "--overwrite")
    assert output.read_bytes() == b"old"
    assert run(*pair, *end, "--overwrite") == 0
    assert zipfile.is_zipfile(output)


def test_of_classes_that_scenes_cannot_draw_a_frame_is_asked_for():
    with pytest.raises(InputError, match=r"no golden frame can be drawn .*'tent'.*; give --frame PICTURE"):
        bundle_command._drawn(LabelSpace("own", (Head("kind", ("tent", "boat")),)))


def test_only_answers_that_no_machine_would_turn_are_counted():
    limits = Thresholds(target=0.5, abstain={"letter": 0.4})

    def target(confidence, sure):
        return Target(Box(0, 0, 9, 9), 81, confidence, {"letter": Attribute("A", sure)})

    assert bundle_command._sure([target(0.9, 0.9), target(0.9, 0.5)], limits) == 3
    assert bundle_command._sure([target(0.52, 0.9)], limits) == 0
