"""Bundles made by hand of the tiny models: what flies, and what is refused."""

from __future__ import annotations

import hashlib
import zipfile

import cv2
import msgspec
import numpy as np
import pytest

from aerial_runtime.backends import open_backend
from aerial_runtime.bundle import (
    GOLDEN_FRAME,
    MANIFEST,
    MODELS,
    Bundle,
    Manifest,
    difference,
    is_sure,
    surely_over,
    thresholds_of,
)
from aerial_runtime.card import Thresholds
from aerial_runtime.contract import Attribute, Box, Frame, Target
from aerial_runtime.daemon import main
from aerial_runtime.errors import CheckError, ModelError, ResourceError
from aerial_runtime.pipeline import Pipeline

RED, DIM, PINK = (0, 0, 255), (0, 0, 185), (200, 0, 255)


def found(folder, image_bgr):
    with open_backend(folder / MODELS[0], "cpu") as segmenter, open_backend(folder / MODELS[1], "cpu") as classifier:
        targets = Pipeline(segmenter, classifier)(Frame(image_bgr, "f", 0, 0, 0)).targets
        return targets, classifier.card.label_space, thresholds_of(segmenter.card, classifier.card)


def write_bundle(path, files, golden, space, thresholds):
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    manifest = Manifest("tiny", sums, space, thresholds, golden, {"aerial": "0"})
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {MANIFEST: msgspec.json.encode(manifest), **files}.items():
            archive.writestr(name, data)
    return path


@pytest.fixture
def parts(tiny_models, kit):
    """The files of a bundle, and what the models find in its golden frame: a plain and a pink target."""
    image_bgr = kit.frame(64, 48, (8, 8, 12, DIM), (36, 20, 16, PINK))
    files = {name: (tiny_models / name).read_bytes() for name in MODELS}
    files[GOLDEN_FRAME] = cv2.imencode(".png", image_bgr)[1].tobytes()
    return files, *found(tiny_models, image_bgr)


@pytest.fixture
def bundle(tmp_path, parts):
    return write_bundle(tmp_path / "tiny.aerial", *parts)


@pytest.fixture
def frame(tmp_path, kit):
    path = tmp_path / "frame.png"
    cv2.imwrite(str(path), kit.frame(64, 48, (8, 8, 16, RED)))
    return path


def fly(frame, models, *flags):
    return main(["--camera", str(frame), "--models", str(models), "--bind", "none", "--quiet", *map(str, flags)])


def refused(capsys, code, frame, models, *words, flags=()):
    assert fly(frame, models, *flags) == code
    err = capsys.readouterr().err
    assert err.startswith("aerial-runtime: error: ") and err.count("\n") == 1
    assert all(str(word) in err for word in words), err


def test_it_flies_and_messages_carry_the_hashes_of_the_models_inside(tmp_path, bundle, frame, parts):
    assert fly(frame, bundle, "--output", tmp_path / "out.jsonl") == 0
    message = msgspec.json.decode((tmp_path / "out.jsonl").read_bytes())
    sums = [hashlib.sha256(parts[0][name]).hexdigest() for name in MODELS]
    assert list(message["models"].items()) == [("segmenter", f"sha256:{sums[0]}"), ("classifier", f"sha256:{sums[1]}")]
    assert len(message["targets"]) == 1


def test_conf_does_not_disturb_the_golden_answer(bundle, frame):
    assert min(target.confidence for target in Bundle(bundle).manifest.golden) < 0.99
    assert fly(frame, bundle, "--conf", 1.0) == 0


def test_nothing_is_left_in_the_temporary_folder(tmp_path, bundle, frame, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    assert fly(frame, bundle) == 0
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_temporary_folder_that_is_not_there_is_named(bundle, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    with pytest.raises(ResourceError, match=r"cannot unpack .*tiny\.aerial into /nowhere .*TMPDIR"):
        with Bundle(bundle).unpacked():
            pass


@pytest.mark.parametrize("name", [*MODELS, GOLDEN_FRAME])
def test_a_file_that_is_not_the_one_bundled(tmp_path, parts, frame, capsys, name):
    files, *rest = parts
    path = write_bundle(tmp_path / "b.aerial", files, *rest)
    with zipfile.ZipFile(path) as archive:
        inside = {item: archive.read(item) for item in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for item, data in inside.items():
            archive.writestr(item, data + b"\0" if item == name else data)
    refused(capsys, 3, frame, path, name, "is not the file that was bundled")


@pytest.mark.parametrize("name", ["../x.onnx", "/tmp/x.onnx", "folder/x.onnx"])
def test_a_file_that_would_lie_elsewhere(bundle, frame, capsys, name):
    with zipfile.ZipFile(bundle, "a") as archive:
        archive.writestr(name, b"")
    refused(capsys, 3, frame, bundle, name, "has no folders")


def test_damage_anywhere_is_refused(bundle, tmp_path, frame, capsys):
    data = bundle.read_bytes()
    bad = tmp_path / "bad.aerial"
    for damaged in (b"", b"text", data[: len(data) // 2], data[:-1], data[:700] + b"\xff" * 8 + data[708:]):
        bad.write_bytes(damaged)
        refused(capsys, 3, frame, bad, bad)
    refused(capsys, 3, frame, tmp_path / "none.aerial", tmp_path / "none.aerial", "check the path")


def test_another_version_is_refused(tmp_path, bundle, frame, capsys):
    data = bundle.read_bytes().replace(b"aerial.bundle/1", b"aerial.bundle/2")
    with zipfile.ZipFile(bundle) as archive:
        inside = {name: archive.read(name) for name in archive.namelist()}
    assert b"aerial.bundle/2" in data
    with zipfile.ZipFile(tmp_path / "new.aerial", "w") as archive:
        for name, content in inside.items():
            archive.writestr(name, content.replace(b"aerial.bundle/1", b"aerial.bundle/2"))
    refused(capsys, 3, frame, tmp_path / "new.aerial", "is not one of 'aerial.bundle/1'", "aerial.bundle/2")


@pytest.mark.parametrize("text", [b'{"name": "\xff"}', b'{"x": ' + b"[" * 100_000], ids=["no UTF-8", "too deep"])
def test_a_manifest_that_is_no_json_is_refused(tmp_path, frame, capsys, text):
    with zipfile.ZipFile(tmp_path / "bad.aerial", "w") as archive:
        archive.writestr(MANIFEST, text)
    refused(capsys, 3, frame, tmp_path / "bad.aerial", "the manifest of", "bad.aerial")


def test_an_encrypted_or_endless_file_is_refused(tmp_path, bundle, frame, capsys):
    """Their marks are set in the central directory alone: flags at 8, size at 24 from the header of the manifest."""
    data = bytearray(bundle.read_bytes())
    entry = data.rindex(b"PK\x01\x02", 0, data.rindex(MANIFEST.encode()))
    for offset, mark, reason in ((8, b"\x01", "encrypted"), (24, b"\xf0\xff\xff\xff", "4294967280 bytes")):
        bad = bytearray(data)
        bad[entry + offset : entry + offset + len(mark)] = mark
        (tmp_path / "bad.aerial").write_bytes(bad)
        refused(capsys, 3, frame, tmp_path / "bad.aerial", "is damaged or no bundle", reason)


def test_models_that_answer_otherwise_do_not_fly(tmp_path, parts, frame, capsys, kit):
    """The segmenter's map is two cells too high; its card and checksum are right."""
    files, *rest = parts
    shifted = kit.build_segmenter(tmp_path / "s.onnx", kit.segmenter_card(), shift=2).read_bytes()
    path = write_bundle(tmp_path / "b.aerial", files | {MODELS[0]: shifted}, *rest)
    refused(capsys, 3, frame, path, "instead of")  # the map's size gives it away
    golden = msgspec.structs.replace(rest[0][1], attributes={"kind": Attribute("orange", 0.99)})
    path = write_bundle(tmp_path / "c.aerial", files, [rest[0][0], golden], *rest[1:])
    refused(capsys, 6, frame, path, "c.aerial does not find on this machine", "kind 'pink', not 'orange'")


def test_stated_thresholds_must_be_the_cards(tmp_path, parts, frame, capsys):
    files, golden, space, thresholds = parts
    other = msgspec.structs.replace(thresholds, mask=0.9)
    path = write_bundle(tmp_path / "b.aerial", files, golden, space, other)
    refused(capsys, 3, frame, path, "the cards in", "are not those that it states")


def test_one_model_may_be_replaced_and_both(tmp_path, bundle, frame, kit, tiny_models, capsys):
    """The golden answer is that of the bundle's own pair."""
    card = kit.classifier_card(thresholds=Thresholds(target=0.99))
    other = kit.build_classifier(tmp_path / "other.onnx", card)
    assert fly(frame, bundle, "--classifier", other) == 0
    both = ("--segmenter", tiny_models / MODELS[0], "--classifier", other)
    assert fly(frame, tmp_path / "none.aerial", *both) == 0  # nothing of it is needed
    refused(capsys, 2, frame, bundle, "--models", flags=("--output", bundle, "--overwrite"))


def target(x=40, confidence=0.95, label="a", sure=0.9, degrees=90.0, sector="E"):
    attributes = {"letter": Attribute(label, sure), "orientation": Attribute(sector, 0.9, degrees=degrees)}
    return Target(Box(x, 8, 20, 20), 400, confidence, attributes)


LIMITS = Thresholds(target=0.5, abstain={"letter": 0.4})


@pytest.mark.parametrize(
    ("golden", "seen", "message"),
    [
        ([target()], [target()], None),
        ([target()], [target(x=44)], None),
        ([target()], [target(x=45)], "no target at 40,8"),
        ([target()], [], "no target at 40,8"),
        ([], [target()], "a new target at 40,8"),
        ([target(confidence=0.52)], [], None),
        ([], [target(confidence=0.52)], None),
        ([target(confidence=0.95)], [target(confidence=0.89)], "a confidence of 0.89, not 0.95"),
        ([target()], [target(label="b")], "has the letter 'b', not 'a'"),
        ([target(sure=0.54)], [target(label="b", sure=0.52)], None),
        ([target(label=None, sure=0.38)], [target(sure=0.41)], None),
        ([target(label=None, sure=0.32)], [target(label="a", sure=0.36)], "has the letter 'a', not None"),
        ([target(sure=0.9)], [target(sure=0.8)], "a confidence in letter of 0.8, not 0.9"),
        ([target(degrees=67.0)], [target(degrees=68.0, sector="NE")], None),
        ([target(degrees=2.0)], [target(degrees=357.0)], None),
        ([target(degrees=2.0)], [target(degrees=347.0)], "has the orientation"),
        ([target(), target(x=44)], [target(x=42)], "no target"),
    ],
)
def test_answers_may_differ_as_machines_do(golden, seen, message):
    result = difference(golden, seen, 4, LIMITS)
    assert result is None if message is None else message in result


def test_above_a_high_threshold_one_can_still_be_sure():
    assert surely_over(0.5) == pytest.approx(0.55)
    assert 0.97 < surely_over(0.97) < 1


def test_a_label_is_sure_when_no_threshold_or_runner_up_is_near():
    sure = [is_sure(Attribute(label, confidence), 0.4) for label, confidence in (("a", 0.56), ("a", 0.54), (None, 0.34),
            (None, 0.36))]  # fmt: skip
    assert sure == [True, False, True, False]


def test_errors_have_the_right_class(bundle, tmp_path):
    opened = Bundle(bundle)
    with pytest.raises(ModelError, match="cannot read other"):
        opened.read("other")
    assert issubclass(CheckError, Exception) and opened.golden_frame().image_bgr.dtype == np.uint8
