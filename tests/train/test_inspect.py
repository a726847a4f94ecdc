"""`aerial-train inspect`: each kind of wrong data is told, with the file; right data passes."""

import base64
import json
import re
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from aerial_runtime.card import Head, LabelSpace, load_label_space
from aerial_train import cli
from aerial_train.data.checks import check_classes
from aerial_train.data.counts import Statistics
from aerial_train.data.duplicates import Duplicates
from aerial_train.data.findings import Findings
from aerial_train.data.manifest import Manifest, write_manifest
from aerial_train.data.packed import CropLabels, write_shard

SUAS = load_label_space("suas")


def noise(seed, width=96, height=64):
    """Blotches, each seed's own."""
    rng = np.random.default_rng(seed)
    small = rng.integers(40, 200, (height // 8, width // 8, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def frames(tmp_path):
    """A dataset of four frames with masks: a rectangle each, labelled rightly."""
    folder = tmp_path / "frames"
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    images, annotations = [], []
    mask = np.zeros((64, 96), np.uint8)
    mask[20:40, 30:60] = 255
    for k in range(1, 5):
        cv2.imwrite(str(folder / "images" / f"{k}.png"), noise(k))
        cv2.imwrite(str(folder / "masks" / f"{k}.png"), mask)
        row = {"id": k, "file_name": f"{k}.png", "width": 96, "height": 64, "source": f"s{k}"}
        images.append({**row, "split": "val" if k == 1 else "train"})
        attributes = {"shape": "star", "letter": "A", "shape_color": "red", "letter_color": "blue"}
        row = {"id": k, "image_id": k, "category_id": 1, "bbox": [30, 20, 30, 20], "segmentation": []}
        annotations.append({**row, "attributes": attributes})
    coco = {"images": images, "categories": [{"id": 1, "name": "target"}], "annotations": annotations}
    (folder / "labels.json").write_text(json.dumps(coco))
    write_manifest(folder, Manifest(kind="frames", recipe="flight", settings={}, seed=0, label_space=SUAS, count=4))
    return folder


def change(folder, **rows):
    """Change rows of the labels: images={number: {...}} or annotations={number: {...}}."""
    coco = json.loads((folder / "labels.json").read_text())
    for part, changes in rows.items():
        for number, values in changes.items():
            coco[part][number - 1].update(values)
    (folder / "labels.json").write_text(json.dumps(coco))


def inspect(folder, capsys, *words):
    code = cli.main(["inspect", str(folder), *words])
    out = capsys.readouterr()
    return code, out.out + out.err


def errors_of(text):
    return [line for line in text.splitlines() if line.startswith("error ")]


def test_right_frames_pass_with_their_statistics(frames, capsys):
    code, text = inspect(frames, capsys)
    assert code == 0 and not errors_of(text)
    assert "4 frames of 4 sources" in text and "4 targets; 0 % of the pictures without one" in text
    assert "shape: star 4" in text and "50 % 30.0" in text
    assert "warning  shape: no target is circle" in text


def swapped_labels(folder):
    change(folder, images={2: {"width": 64, "height": 96}})


def other_size(folder):
    cv2.imwrite(str(folder / "images" / "2.png"), noise(2, 80, 64))


def turned_by_exif(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(2)[..., ::-1]).save(folder / "images" / "2.jpg", exif=exif)
    change(folder, images={2: {"file_name": "2.jpg", "width": 64, "height": 96}})


def unreadable(folder):
    (folder / "images" / "2.png").write_bytes((folder / "images" / "2.png").read_bytes()[:60])


def missing(folder):
    (folder / "images" / "2.png").unlink()


def one_colour(folder):
    cv2.imwrite(str(folder / "images" / "2.png"), np.zeros((64, 96, 3), np.uint8))


def outside(folder):
    change(folder, annotations={2: {"bbox": [100, 20, 30, 20]}})


def swapped_box(folder):
    change(folder, annotations={2: {"bbox": [40, 62, 20, 30]}})


def no_area(folder):
    change(folder, annotations={2: {"bbox": [30, 20, 0, 20]}})


def swapped_mask(folder):
    cv2.imwrite(str(folder / "masks" / "2.png"), np.zeros((96, 64), np.uint8))


def empty_mask(folder):
    cv2.imwrite(str(folder / "masks" / "2.png"), np.zeros((64, 96), np.uint8))


def moved_box(folder):
    change(folder, annotations={2: {"bbox": [62, 42, 20, 20]}})


def leaking_source(folder):
    change(folder, images={2: {"source": "s1"}})


def same_picture(folder):
    cv2.imwrite(str(folder / "images" / "2.png"), noise(1))


def brighter_picture(folder):
    cv2.imwrite(str(folder / "images" / "2.png"), cv2.convertScaleAbs(noise(1), alpha=1.1, beta=9))


def no_splits(folder):
    change(folder, images={k: {"split": None} for k in range(1, 5)})


def other_count(folder):
    write_manifest(folder, Manifest(kind="frames", recipe="flight", settings={}, seed=0, label_space=SUAS, count=5))


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (swapped_labels, "width and height swapped: 1 (2.png: 96x64, labels for 64x96)"),
        (other_size, "another size than their labels were made for: 1 (2.png: 80x64, labels for 96x64)"),
        (turned_by_exif, "only after the EXIF rotation"),
        (unreadable, "cannot be read: 1"),
        (missing, "cannot be read: 1"),
        (one_colour, "of one colour: 1 (2.png)"),
        (outside, "outside their picture: 1 (2.png x=100 y=20 30x20)"),
        (swapped_box, "fit only with x and y, width and height swapped: 1 (2.png)"),
        (no_area, "without area: 1 (2.png x=30 y=20 0x20)"),
        (swapped_mask, "masks with width and height swapped: 1 (2.png: 64x96)"),
        (empty_mask, "masks without a target though there are boxes: 1 (2.png)"),
        (moved_box, "in which the mask is empty: 1 (2.png x=62 y=42 20x20)"),
        (moved_box, "outside all boxes: 1 (2.png)"),
        (leaking_source, "sources in train and in val: the score would be of pictures already learnt: 1 (s1)"),
        (same_picture, "the same picture in train and in val: 1 (1.png = 2.png)"),
        (brighter_picture, "nearly the same picture in train and in val: 1 (1.png = 2.png)"),
        (other_count, "the manifest promises 5 pictures, there are 4"),
    ],
)
def test_wrong_frames_fail_with_file_and_reason(frames, capsys, spoil, named):
    spoil(frames)
    code, text = inspect(frames, capsys)
    assert code == 6 and any(named in line for line in errors_of(text)), text
    assert text.splitlines()[-1].startswith("aerial-train inspect: error: ")


@pytest.mark.parametrize(
    ("source", "named"), [("s2", "in two sources, which may come to lie in train and in val: 1"), ("s1", "twice: 1 (")]
)
def test_copies_in_two_sources_are_worse_than_in_one(frames, capsys, source, named):
    same_picture(frames)
    no_splits(frames)
    change(frames, images={2: {"source": source}})
    code, text = inspect(frames, capsys)
    assert code == 0 and f"warning  the same picture {named}" in text


def test_doubtful_frames_are_warned_of(frames, capsys):
    change(
        frames,
        annotations={1: {"bbox": [90, 20, 30, 20]}, 2: {"bbox": [30, 20, 6, 6]}, 3: {"attributes": {"shap": "star"}}},
    )
    coco = json.loads((frames / "labels.json").read_text())
    coco["annotations"].append({**coco["annotations"][3], "id": 9, "bbox": [31, 20, 29, 20]})
    (frames / "labels.json").write_text(json.dumps(coco))
    for path in (frames / "masks").iterdir():
        path.unlink()
    dark = np.random.default_rng(0).integers(0, 9, (64, 96, 3), np.uint8)
    cv2.imwrite(str(frames / "images" / "4.png"), dark)
    code, text = inspect(frames, capsys)
    assert code == 0
    for named in (
        "stick out of their picture: 1 (1.png",
        "under 10 px, too small to be learnt: 1 (2.png x=30 y=20 6x6)",
        "no head of the label space asks for: 1 (shap)",
        "labelled twice: 1 (4.png)",
        "nearly black or nearly white: 1 (4.png)",
        "note     5 of 5 labels are boxes alone",
    ):
        assert named in text, named


def test_rotation_in_exif_is_warned_of_even_where_sizes_fit(frames, capsys):
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(noise(2)[..., ::-1]).save(frames / "images" / "2.jpg", exif=exif)
    change(frames, images={2: {"file_name": "2.jpg"}})
    assert "warning  pictures with an EXIF rotation" in inspect(frames, capsys)[1]


def crops_dataset(folder, **changes):
    """300 crops of noise, two of three targets, in two shards."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for shard in range(2):
        n = 150
        crops = np.stack([noise(1000 * shard + k, 32, 32) for k in range(n)])
        is_target = (np.arange(n) % 3 > 0).astype(np.uint8)
        classes = np.stack([rng.integers(0, len(head.classes), n) for head in SUAS.heads], axis=1).astype(np.int16)
        classes[is_target == 0] = -1
        heading = np.zeros((n, 2), np.float32)
        heading[is_target == 1] = (0.6, -0.8)
        val = (np.arange(n) % 10 == 9).astype(np.uint8)
        labels = CropLabels(is_target, classes, heading, np.full(n, 30, np.float32), val)
        labels = replace(labels, **{name: value(getattr(labels, name).copy()) for name, value in changes.items()})
        write_shard(folder, shard, crops, labels)
    settings = {"size": 32, "margin": 1.3}
    write_manifest(
        folder, Manifest(kind="crops", recipe="flight", settings=settings, seed=0, label_space=SUAS, count=300)
    )
    return folder


def put(*where, value):
    def changed(array):
        array[where] = value
        return array

    return changed


def test_right_crops_pass(tmp_path, capsys):
    code, text = inspect(crops_dataset(tmp_path / "c"), capsys)
    assert code == 0 and "300 crops, 30 of them held out; shards: 2" in text, text
    assert "200 targets; 33 % of the pictures without one" in text


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"classes": put(1, 0, value=13)}, "classes of shape that the label space has not: 2 (crops-00000.npy[1]"),
        ({"classes": put(0, 1, value=3)}, "without target that have a class: 2 (crops-00000.npy[0]"),
        ({"is_target": put(4, value=7)}, "neither are a target nor are none: 2 (crops-00000.npy[4]"),
        ({"heading": put(5, 0, value=9)}, "no unit vector: 2 (crops-00000.npy[5]: length 9.0"),
    ],
)
def test_wrong_crop_labels_fail(tmp_path, capsys, changes, named):
    code, text = inspect(crops_dataset(tmp_path / "c", **changes), capsys)
    assert code == 6 and named in text, text


def test_what_cannot_be_read_at_all_ends_with_3(tmp_path, frames, capsys):
    crops = crops_dataset(tmp_path / "c")
    (crops / "labels-00001.npz").write_bytes(b"PK")
    other = tmp_path / "space.json"
    other.write_text(json.dumps({"name": "pads", "heads": [{"name": "kind", "classes": ["a", "b"]}], "heading": None}))
    for folder, words, code, named in (
        (crops, (), 3, "labels-00001.npz"),
        (frames, ("--label-space", str(other)), 3, "has the heads"),
        (tmp_path / "none", (), 3, "none"),
        (tmp_path, (), 3, "neither labels.json"),
        (frames, ("--sheet", "x.txt"), 2, ".png or .html"),
        (frames, ("--sheet", "/none/x.png"), 5, "/none"),
        ("scenes", ("--count", "0"), 2, "--count"),
        ("scenes", ("--recipe", "r23"), 2, "nearest known"),
        ("scenes=0.5,a=0.5", (), 2, "mixture"),
    ):
        found, text = inspect(folder, capsys, *words)
        assert (found, text.count("\n")) == (code, 1) and named in text, text


def test_labels_without_any_picture_fail_with_the_pictures_names(tmp_path, capsys):
    coco = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 100}],
        "categories": [{"id": 1, "name": "target"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 30, 30]}],
    }
    (tmp_path / "labels.json").write_text(json.dumps(coco))
    code, text = inspect(tmp_path, capsys)
    assert code == 6 and "pictures that cannot be read: 1" in text and "a.jpg" in text


def test_sheets_show_pictures_with_labels(frames, tmp_path, capsys):
    png, html = tmp_path / "s.png", tmp_path / "s.html"
    assert inspect(frames, capsys, "--sheet", str(png))[0] == 0
    assert cv2.imread(str(png)).shape == (256, 4 * 512, 3)
    crops = crops_dataset(tmp_path / "c")
    assert inspect(crops, capsys, "--sheet", str(html))[0] == 0
    page = html.read_text()
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(pictures) == 72 and "http" not in page and "src=" not in re.sub(r'src="data:', "", page)
    assert cv2.imdecode(np.frombuffer(base64.b64decode(pictures[0]), np.uint8), 1).shape == (112, 112, 3)
    assert "300 crops, 30 of them held out" in page and "no target" in page


def test_names_are_escaped_in_html(frames, tmp_path, capsys):
    html = tmp_path / "s.html"
    change(frames, images={1: {"source": "<b>x"}, 2: {"source": "<b>x"}})
    assert inspect(frames, capsys, "--sheet", str(html))[0] == 6
    assert "&lt;b&gt;x" in html.read_text() and "<b>x" not in html.read_text()


def test_scenes_are_drawn_and_checked(tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "ground.png"), noise(0, 400, 300))
    for kind, recipe in (("frames", "flight"), ("crops", "r32")):
        words = ("--kind", kind, "--recipe", recipe, "--count", "6", "--backgrounds", str(tmp_path))
        code, text = inspect("scenes", capsys, *words, "--sheet", str(tmp_path / f"{kind}.png"))
        assert code == 0 and f"6 {kind} drawn" in text and "a second on one core" in text


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ((50, 50, 50), []),
        ((50, 50, 0), ["kind: no target is c"]),
        ((90, 80, 3), ["kind: of 173, rare are c 3"]),
        ((120, 30, 11), ["kind: a 120 against c 11"]),
        ((0, 0, 0), ["no target has a known kind"]),
    ],
)
def test_classes_are_compared(counts, said):
    statistics, findings = Statistics(LabelSpace("x", (Head("kind", ("a", "b", "c")),))), Findings()
    for index, count in enumerate(counts):
        statistics.add_frame([({"kind": index}, 20.0)] * count, (0, 0, 0))
    statistics.add_frame([({"kind": -1}, 20.0)] * 7, (0, 0, 0))
    check_classes(findings, statistics)
    assert [finding.what for finding in findings.all()] == said


def test_duplicates_are_told_from_different_pictures():
    def found(*pictures):
        findings, duplicates = Findings(), Duplicates()
        for k, picture in enumerate(pictures):
            duplicates.add(str(k), picture)
        duplicates.report(findings)
        return [(finding.what, finding.places) for finding in findings.all()]

    one = noise(1)
    _, data = cv2.imencode(".jpg", one, (cv2.IMWRITE_JPEG_QUALITY, 60))
    smaller = cv2.resize(one, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
    assert found(one, noise(2), one.copy()) == [("the same picture twice", ["0 = 2"])]
    for copy in (cv2.imdecode(data, 1), smaller, cv2.convertScaleAbs(one, alpha=0.9, beta=5)):
        assert found(noise(3), one, copy) == [("nearly the same picture twice", ["1 = 2"])]
    assert found(*(noise(seed) for seed in range(60))) == []
    y, x = np.mgrid[:64, :96] - 40
    vignettes = [
        np.clip(200 - (x**2 + y**2)[..., None] / 60 + np.random.default_rng(k).normal(0, 4, (64, 96, 3)), 0, 255)
        for k in range(4)
    ]
    assert found(*(picture.astype(np.uint8) for picture in vignettes)) == []
