"""Real photos with labels of any format: the same label reads the same, and what is wrong is named."""

import json
import struct
import zlib

import cv2
import numpy as np
import pytest

from aerial_runtime.card import load_label_space
from aerial_runtime.contract import Box
from aerial_runtime.errors import InputError
from aerial_train.data.photos import picture_size, read_picture
from aerial_train.data.reading import read_photos

SUAS = load_label_space("suas")


def test_the_same_label_in_every_format(tmp_path, boxes, photo_kit):
    listed = read_photos(boxes / "labels.json", SUAS).photos[0]
    annotation = {"bbox": [50, 40, 30, 20], "segmentation": [photo_kit.polygon], "attributes": photo_kit.star}
    coco = photo_kit.coco_of(tmp_path / "coco", [annotation])
    polygon = "0 " + " ".join(str(v / s) for v, s in zip(photo_kit.polygon, (200, 120) * 4, strict=True))
    yolo = photo_kit.yolo_of(tmp_path / "yolo", f"{polygon}\n1 0.325 {50 / 120} 0.15 {20 / 120}\n")
    from_coco, from_yolo = read_photos(coco, SUAS).photos[0], read_photos(yolo, SUAS).photos
    box = Box(50, 40, 30, 20)
    assert listed.targets[0].box == from_coco.targets[0].box == box
    assert [target.box for target in from_yolo[0].targets] == [box, box]
    star, red = SUAS.head("shape").classes.index("star"), SUAS.head("shape_color").classes.index("red")
    for target in (listed.targets[0], from_coco.targets[0]):
        assert target.labels == {"shape": star, "letter": 0, "shape_color": red, "letter_color": -1}
        assert target.degrees == 90
    assert [target.labels["shape"] for target in from_yolo[0].targets] == [star, -1]
    assert [len(target.polygons) for target in from_yolo[0].targets] == [1, 0]
    np.testing.assert_allclose(from_yolo[0].targets[0].polygons[0], np.reshape(photo_kit.polygon, (-1, 2)), atol=1e-3)
    assert from_yolo[1].targets == () and from_yolo[1].name == "images/train/b_1.png"
    assert [listed.source, from_coco.source, from_yolo[0].source] == ["a", "a", "a"]


def test_yolo_folders_by_split_are_read_too_but_their_split_is_not(tmp_path, photo_kit):
    for part in ("train", "valid"):
        for kind in ("images", "labels"):
            (tmp_path / part / kind).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / part / "images" / "a_1_png.rf.12ab.png"), photo_kit.picture())
        (tmp_path / part / "labels" / "a_1_png.rf.12ab.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    (tmp_path / "data.yaml").write_text("names: {0: target}\n")
    photos = read_photos(tmp_path, SUAS).photos
    assert [len(photo.targets) for photo in photos] == [1, 1]
    assert [(photo.source, photo.split) for photo in photos] == [("a", "")] * 2


def test_coco_attributes_go_before_categories_and_crowds_are_ignored(tmp_path, photo_kit):
    star = SUAS.head("shape").classes.index("star")
    path = photo_kit.coco_of(
        tmp_path / "c",
        [
            {"bbox": [50, 40, 30, 20], "attributes": {"letter": "B", "occluded": False, "colour": "x"}},
            {"bbox": [1.5, 2, 10.2, 9], "attributes": {"shape": "cross", "truncated": True}},
            {"bbox": [0, 0, 20, 20], "iscrowd": 1, "segmentation": {"counts": [1], "size": [120, 200]}},
            {"segmentation": [photo_kit.polygon], "ignore": 1},
        ],
        [{"id": 7, "name": "star"}],
        source="monday",
        complete=False,
    )
    found = read_photos(path, SUAS)
    one, two, crowd, ignored = found.photos[0].targets
    assert (one.labels["shape"], one.labels["letter"]) == (star, 1)
    assert two.labels["shape"] == SUAS.head("shape").classes.index("cross") and two.truncated
    assert two.box == Box(1, 2, 11, 9)
    assert crowd.ignored and ignored.ignored and ignored.box == Box(50, 40, 30, 20)
    assert found.unread == ("colour",) and found.photos[0].source == "monday" and not found.photos[0].complete


def test_coco_ids_may_be_text_or_numbers(tmp_path, photo_kit):
    star = SUAS.head("shape").classes.index("star")
    rows = [{"bbox": [50, 40, 30, 20], "image_id": image, "category_id": category}
            for image, category in (("3", "7"), (3, 7.0), (3.0, 7))]  # fmt: skip
    for number in (3, "3"):
        path = photo_kit.coco_of(tmp_path / "c", rows, [{"id": "7", "name": "star"}], id=number)
        assert [target.labels["shape"] for target in read_photos(path, SUAS).photos[0].targets] == [star] * 3


@pytest.mark.parametrize(("word", "said"), [("0", False), ("false", False), ("", False), ("True", True), ("1", True)])
def test_true_and_false_may_be_text(tmp_path, photo_kit, word, said):
    row = {"bbox": [50, 40, 30, 20], "iscrowd": word, "attributes": {"truncated": word, "occluded": word}}
    photo = read_photos(photo_kit.coco_of(tmp_path / "c", [row], complete=word), SUAS).photos[0]
    listed = {"image": "a.png", "width": 9, "height": 9, "complete": word}
    target = {"x": 1, "y": 1, "w": 5, "h": 5, "truncated": word, "ignored": word}
    (tmp_path / "labels.json").write_text(json.dumps([{**listed, "targets": [target]}]))
    for found in (photo, read_photos(tmp_path, SUAS).photos[0]):
        assert (found.complete, found.targets[0].truncated, found.targets[0].ignored) == (said, said, said)


def test_what_is_neither_true_nor_false_is_named(tmp_path, photo_kit):
    row = {"bbox": [50, 40, 30, 20], "attributes": {"truncated": "maybe"}}
    with pytest.raises(InputError, match="annotation 1: truncated is 'maybe'; write true or false"):
        read_photos(photo_kit.coco_of(tmp_path / "c", [row]), SUAS)


@pytest.mark.parametrize("what", ["images", "categories"])
def test_coco_with_two_of_one_id_is_refused(tmp_path, photo_kit, what):
    path = photo_kit.coco_of(tmp_path / "c", [{"bbox": [50, 40, 30, 20]}])
    coco = json.loads(path.read_text())
    coco[what].append({**coco[what][0], "file_name": "b_1.png", "name": "star"})
    path.write_text(json.dumps(coco))
    with pytest.raises(InputError, match=rf"two of `{what}` have the id [37];"):
        read_photos(path, SUAS)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"category_id": 9}, "category 9"),
        ({"image_id": 1}, "image 1"),
        ({"segmentation": {"counts": "x", "size": [1, 1]}}, "run-length"),
        ({"segmentation": [[1, 2, 3, 4]]}, "fewer than three"),
        ({"bbox": None}, "neither a bbox nor a polygon"),
        ({"bbox": [1, 2, 3]}, "not COCO JSON"),
        ({"attributes": {"shape": "blob"}}, "shape 'blob' is not in the label space"),
    ],
)
def test_coco_that_is_wrong_is_named(tmp_path, change, named, photo_kit):
    with pytest.raises(InputError, match=named):
        read_photos(photo_kit.coco_of(tmp_path / "c", [{"bbox": [50, 40, 30, 20], **change}]), SUAS)


@pytest.mark.parametrize(
    ("lines", "names", "named"),
    [
        ("2 0.5 0.5 0.1 0.1", "[star, target]", r"a_1\.txt, line 1: class 2"),
        ("\n0 0.5 0.5 0.1", "[star, target]", "line 2, has 3 numbers"),
        ("0 50 40 30 20", "[star, target]", "outside 0..1"),
        ("0 0.5 x 0.1 0.1", "[star, target]", "must be a class and numbers"),
        ("0 0.5 0.5 0.1 0.1", "[stra, target]", r"data\.yaml.*'stra'.*nearest known are star"),
        ("0 0.5 0.5 0.1 0.1", "7", "no readable list `names`"),
        ("0 0.5 0.5 0.1 0.1", "[star", "no readable list `names`"),
    ],
)
def test_yolo_that_is_wrong_is_named(tmp_path, lines, names, named, photo_kit):
    with pytest.raises(InputError, match=named):
        read_photos(photo_kit.yolo_of(tmp_path / "y", lines, names), SUAS)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("[]", "empty"),
        ("[1]", "not a label list"),
        ('{"a": 1}', "not COCO JSON"),
        ("{", "not JSON"),
        ('[{"image": "a.png", "width": 9, "height": 9, "targets": [{"x": 1}]}]', "not a label list"),
        ('[{"image": "a.png", "width": 9, "height": 9, "targets": [], "split": "test"}]', "'test'"),
        (
            '[{"image": "a.png", "width": 9, "height": 9, "x": 1, "y": 1, "w": 2, "h": 2, "shape": "star"}]',
            "a.png has a box but no `targets`; write {image, targets:",
        ),
        ('[{"image": "none.png", "targets": []}]', r"none\.png"),
        ('[{"image": "größe.png", "targets": []}]', "not JSON"),  # written here in another coding than UTF-8
        ("[" * 100_000, "not JSON"),
        (
            '[{"image": "a.png", "width": 9, "height": 9, "targets": [{"x": "inf", "y": 1, "w": 2, "h": 2}]}]',
            "from inf, 1",
        ),
    ],
)
def test_label_lists_that_are_wrong_are_named(tmp_path, content, named):
    (tmp_path / "labels.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=named):
        read_photos(tmp_path, SUAS)


def test_a_frame_in_several_rows_is_refused(tmp_path, photo_kit):
    target = {"x": 1, "y": 1, "w": 5, "h": 5}
    row = {"image": "a.png", "width": 9, "height": 9, "targets": [target]}
    (tmp_path / "labels.json").write_text(json.dumps([row, {**row, "targets": [{**target, "x": 3}]}]))
    with pytest.raises(InputError, match=r"a\.png is listed 2 times; list each picture once, with all its targets"):
        read_photos(tmp_path, SUAS)
    path = photo_kit.coco_of(tmp_path / "c", [{"bbox": [50, 40, 30, 20]}])
    coco = json.loads(path.read_text())
    coco["images"].append({**coco["images"][0], "id": 4})
    path.write_text(json.dumps(coco))
    with pytest.raises(InputError, match=r"a_1\.png is listed 2 times"):
        read_photos(path, SUAS)
    crop = {"image": "a.png", "width": 9, "height": 9, "shape": "star"}
    (tmp_path / "labels.json").write_text(json.dumps([crop, crop]))
    assert len(read_photos(tmp_path, SUAS).photos) == 2


def test_folders_without_labels_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"neither labels.json nor"):
        read_photos(tmp_path, SUAS)
    with pytest.raises(InputError, match="scenes"):
        read_photos(tmp_path / "scenen", SUAS)


def png_of(width, height):
    """A PNG whose header is right and whose pixels are missing."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"")


def test_maps_of_whole_fields_are_no_attack(tmp_path):
    (tmp_path / "map.png").write_bytes(png_of(20_000, 20_000))
    assert picture_size(tmp_path / "map.png") == (20_000, 20_000)


def test_a_picture_of_more_pixels_than_can_be_decoded_is_named(tmp_path):
    (tmp_path / "map.png").write_bytes(png_of(60_000, 60_000))
    with pytest.raises(InputError, match=r"map\.png is no picture that can be decoded"):
        read_picture(tmp_path / "map.png")
