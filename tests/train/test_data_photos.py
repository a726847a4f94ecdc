"""Real photos with labels of any format: read, cut into windows and crops, copied to a dataset."""

import json

import cv2
import numpy as np
import pytest

from aerial_runtime.card import load_label_space
from aerial_runtime.contract import Box
from aerial_runtime.crop import cut_crop
from aerial_runtime.errors import InputError, UsageError
from aerial_train import cli
from aerial_train.data import open_crops, open_frames
from aerial_train.data.reading import read_photos

SUAS = load_label_space("suas")
ANY = {"space": SUAS, "recipe": "flight", "backgrounds": None, "seed": 0}
WINDOWS = {**ANY, "size": (64, 48), "stride": 4}
WHOLE = {**ANY, "size": None, "stride": 4}
CROPS = {**ANY, "crop_size": 32, "margin": 1.3}
STAR = {"shape": "star", "letter": "A", "shape_color": "red", "letter_color": None, "orientation": "E"}


def picture(seed=0, width=200, height=120):
    """Noise, with a red rectangle at x=50..80, y=40..60."""
    image = np.random.default_rng(seed).integers(60, 120, (height, width, 3), np.uint8)
    image[40:60, 50:80] = (0, 0, 200)
    return image


def label_list(folder, rows, size=(200, 120)):
    """Write a label list and its pictures; return the folder."""
    folder.mkdir(exist_ok=True)
    for k, row in enumerate(rows):
        cv2.imwrite(str(folder / row["image"]), picture(k, *size))
    (folder / "labels.json").write_text(json.dumps(rows))
    return folder


@pytest.fixture
def boxes(tmp_path):
    """Four photos of two flights, each with one labelled box."""
    target = {"x": 50, "y": 40, "w": 30, "h": 20, **STAR}
    return label_list(
        tmp_path / "boxes", [{"image": f"{f}_{k}.png", "targets": [target]} for f in "ab" for k in (1, 2)]
    )


def coco_of(folder, annotations, categories=({"id": 7, "name": "target"},), **image):
    folder.mkdir(exist_ok=True)
    (folder / "images").mkdir(exist_ok=True)
    cv2.imwrite(str(folder / "images" / "a_1.png"), picture())
    rows = [{"id": 3, "file_name": "a_1.png", "width": 200, "height": 120, **image}]
    annotations = [
        {"id": k, "image_id": 3, "category_id": 7, "iscrowd": 0, **row} for k, row in enumerate(annotations, 1)
    ]
    path = folder / "instances.json"
    path.write_text(json.dumps({"images": rows, "categories": list(categories), "annotations": annotations}))
    return path


POLYGON = [50, 40, 80, 40, 80, 60, 50, 60]


def yolo_of(folder, lines, names="[star, target]"):
    for part in ("images/train", "labels/train"):
        (folder / part).mkdir(parents=True)
    (folder / "data.yaml").write_text(f"train: images/train\nnc: 2\nnames: {names}\n")
    for name in ("a_1", "b_1"):
        cv2.imwrite(str(folder / "images/train" / f"{name}.png"), picture())
    (folder / "labels/train/a_1.txt").write_text(lines)
    return folder


def test_the_same_label_in_every_format(tmp_path, boxes):
    listed = read_photos(boxes / "labels.json", SUAS).photos[0]
    coco = coco_of(tmp_path / "coco", [{"bbox": [50, 40, 30, 20], "segmentation": [POLYGON], "attributes": STAR}])
    polygon = "0 " + " ".join(str(v / s) for v, s in zip(POLYGON, (200, 120) * 4, strict=True))
    yolo = yolo_of(tmp_path / "yolo", f"{polygon}\n1 0.325 {50 / 120} 0.15 {20 / 120}\n")
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
    np.testing.assert_allclose(from_yolo[0].targets[0].polygons[0], np.reshape(POLYGON, (-1, 2)), atol=1e-3)
    assert from_yolo[1].targets == () and from_yolo[1].name == "images/train/b_1.png"
    assert [listed.source, from_coco.source, from_yolo[0].source] == ["a", "a", "a"]


def test_yolo_folders_by_split_are_read_too_but_their_split_is_not(tmp_path):
    for part in ("train", "valid"):
        for kind in ("images", "labels"):
            (tmp_path / part / kind).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / part / "images" / "a_1_png.rf.12ab.png"), picture())
        (tmp_path / part / "labels" / "a_1_png.rf.12ab.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    (tmp_path / "data.yaml").write_text("names: {0: target}\n")
    photos = read_photos(tmp_path, SUAS).photos
    assert [len(photo.targets) for photo in photos] == [1, 1]
    assert [(photo.source, photo.split) for photo in photos] == [("a", "")] * 2


def test_coco_attributes_go_before_categories_and_crowds_are_ignored(tmp_path):
    star = SUAS.head("shape").classes.index("star")
    path = coco_of(
        tmp_path / "c",
        [
            {"bbox": [50, 40, 30, 20], "attributes": {"letter": "B", "occluded": False, "colour": "x"}},
            {"bbox": [1.5, 2, 10.2, 9], "attributes": {"shape": "cross", "truncated": True}},
            {"bbox": [0, 0, 20, 20], "iscrowd": 1, "segmentation": {"counts": [1], "size": [120, 200]}},
            {"segmentation": [POLYGON], "ignore": 1},
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
def test_coco_that_is_wrong_is_named(tmp_path, change, named):
    with pytest.raises(InputError, match=named):
        read_photos(coco_of(tmp_path / "c", [{"bbox": [50, 40, 30, 20], **change}]), SUAS)


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
def test_yolo_that_is_wrong_is_named(tmp_path, lines, names, named):
    with pytest.raises(InputError, match=named):
        read_photos(yolo_of(tmp_path / "y", lines, names), SUAS)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("[]", "empty"),
        ("[1]", "not a label list"),
        ('{"a": 1}', "not COCO JSON"),
        ("{", "not JSON"),
        ('[{"image": "a.png", "width": 9, "height": 9, "targets": [{"x": 1}]}]', "not a label list"),
        ('[{"image": "a.png", "width": 9, "height": 9, "targets": [], "split": "test"}]', "'test'"),
        ('[{"image": "none.png", "targets": []}]', r"none\.png"),
    ],
)
def test_label_lists_that_are_wrong_are_named(tmp_path, content, named):
    (tmp_path / "labels.json").write_text(content)
    with pytest.raises(InputError, match=named):
        read_photos(tmp_path, SUAS)


def test_folders_without_labels_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"neither labels.json nor"):
        read_photos(tmp_path, SUAS)
    with pytest.raises(InputError, match="scenes"):
        read_photos(tmp_path / "scenen", SUAS)


def test_whole_pictures_come_in_the_order_of_the_labels(boxes):
    frames = open_frames(str(boxes), split="all", **WHOLE)
    assert frames.count == 4
    assert [frames.sample(0, index).name for index in range(4)] == ["a_1.png", "a_2.png", "b_1.png", "b_2.png"]
    sample = frames.sample(0, 1)
    np.testing.assert_array_equal(sample.image_bgr, picture(1))
    (target,) = sample.targets
    assert (target.box, target.degrees, target.truncated) == (Box(50, 40, 30, 20), 90, False)
    assert target.attributes == {"shape": "star", "letter": "A", "shape_color": "red", "letter_color": None}


def test_of_a_box_the_middle_is_target_and_the_rest_is_unknown(boxes):
    sample = open_frames(str(boxes), split="all", **WHOLE).sample(0, 0)
    sure, unknown = sample.mask > 127, sample.ignore > 0
    assert sure[50, 65] and not unknown[50, 65]
    assert unknown[41, 51] and not sure[41, 51]
    assert 0.08 < sure[40:60, 50:80].mean() < 0.2
    outside = np.ones_like(sure)
    outside[40:60, 50:80] = False
    assert not sure[outside].any() and not unknown[outside].any()
    batch = open_frames(str(boxes), split="all", **WHOLE).batch(0, [0])
    assert batch.weight[0, 10, 13] == 0 and batch.weight[0, 0, 0] == 1 and batch.coverage[0].max() == 255


def test_polygons_are_filled_and_ignored_objects_left_out(tmp_path):
    triangle = [50, 60, 80, 60, 65, 40]
    path = coco_of(tmp_path / "c", [
        {"bbox": [50, 40, 30, 20], "segmentation": [triangle]},
        {"bbox": [100, 40, 30, 20], "segmentation": [[100, 40, 130, 40, 130, 60]], "ignore": 1},
        {"bbox": [0, 40, 20, 20], "attributes": {"truncated": True}},
    ])  # fmt: skip
    sample = open_frames(str(path), split="all", **WHOLE).sample(0, 0)
    assert (sample.mask > 127).sum() == pytest.approx(300, abs=12)
    assert sample.mask[58, 65] == 255 and sample.mask[42, 52] == 0
    unknown = sample.ignore > 0
    assert unknown[40:60, 100:130].all() and unknown[40:60, :20].all() and unknown.sum() == 30 * 20 + 20 * 20
    assert [target.truncated for target in sample.targets] == [False, True, True]


def test_drawn_masks_go_before_boxes_and_polygons(tmp_path):
    path = coco_of(tmp_path / "c", [
        {"bbox": [50, 40, 30, 20], "segmentation": [POLYGON]},
        {"bbox": [0, 40, 20, 20], "attributes": {"truncated": True}},
    ])  # fmt: skip
    mask = np.zeros((120, 200), np.uint8)
    mask[45:55, 60:70] = 200
    (tmp_path / "c" / "masks").mkdir()
    cv2.imwrite(str(tmp_path / "c" / "masks" / "a_1.png"), mask)
    whole = open_frames(str(path), split="all", **WHOLE).sample(0, 0)
    np.testing.assert_array_equal(whole.mask, mask)
    assert whole.ignore is None
    frames = open_frames(str(path), split="all", **WINDOWS)
    for index in range(20):
        sample = frames.sample(0, index)
        red = (sample.image_bgr == (0, 0, 200)).all(axis=2)
        assert red[sample.mask > 0].all() and (sample.mask > 0).sum() <= 100


def test_where_labels_are_missing_only_their_surroundings_count(tmp_path):
    path = coco_of(tmp_path / "c", [{"bbox": [50, 40, 30, 20], "segmentation": [POLYGON]}], complete=False)
    sample = open_frames(str(path), split="all", **WHOLE).sample(0, 0)
    assert not sample.complete
    assert (sample.ignore[25:75, 35:95] == 0).all() and (sample.ignore == 0).sum() == 50 * 60


def test_windows_are_functions_of_seed_epoch_and_index(boxes):
    frames = open_frames(str(boxes), split="all", **WINDOWS)
    again = open_frames(str(boxes), split="all", **WINDOWS)
    other = open_frames(str(boxes), split="all", **{**WINDOWS, "seed": 1})
    batch = frames.batch(3, range(12))
    assert batch.images.shape == (12, 48, 64, 3) and batch.coverage.shape == (12, 12, 16)
    np.testing.assert_array_equal(batch.images[4:], again.batch(3, range(4, 12)).images)
    assert (batch.images != frames.batch(4, range(12)).images).any()
    assert (batch.images != other.batch(3, range(12)).images).any()
    names = [frames.sample(3, index).name for index in range(12)]
    assert all(sorted(names[k : k + 4]) == ["a_1.png", "a_2.png", "b_1.png", "b_2.png"] for k in (0, 4, 8))
    assert names[:4] != names[4:8] or names[4:8] != names[8:]


def test_windows_show_targets_where_their_labels_say(boxes):
    frames, seen = open_frames(str(boxes), split="all", **WINDOWS), 0
    for index in range(60):
        sample = frames.sample(0, index)
        red = (sample.image_bgr == (0, 0, 200)).all(axis=2)
        if not sample.targets:
            assert not red.any() and not sample.mask.any()
            continue
        box = sample.targets[0].box
        seen += 1
        assert red[box.y : box.y + box.height, box.x : box.x + box.width].all() and red.sum() == box.area_px
        assert sample.targets[0].truncated == (box.area_px < 0.9 * 600)
    assert seen > 36


def test_windows_of_small_photos_do_not_mirror_and_ignore_what_is_outside(tmp_path):
    folder = label_list(tmp_path / "s", [{"image": "a_1.png", "targets": []}], (40, 30))
    sample = open_frames(str(folder), split="all", **WINDOWS).sample(0, 0)
    assert sample.image_bgr.shape == (48, 64, 3)
    assert (sample.ignore == 0).sum() == 40 * 30
    rows, columns = np.nonzero(sample.ignore == 0)
    x, y = columns.min(), rows.min()
    inside = sample.image_bgr[y : y + 30, x : x + 40]
    np.testing.assert_array_equal(inside, picture(0, 40, 30))
    assert (sample.image_bgr[y : y + 30, :x] == inside[:, :1]).all()


def test_training_windows_of_photos_differ_in_light(boxes):
    train = open_frames(str(boxes), split="train", **WINDOWS)
    plain = open_frames(str(boxes), split="val", **WINDOWS)
    assert train.count == plain.count == 2
    assert {train.sample(0, k).name[0] for k in range(2)} != {plain.sample(0, k).name[0] for k in range(2)}
    reds = [(train.sample(e, 0).image_bgr == (0, 0, 200)).all(axis=2).any() for e in range(8)]
    assert not all(reds)
    assert any((plain.sample(e, 0).image_bgr == (0, 0, 200)).all(axis=2).any() for e in range(8))


def test_pictures_of_another_size_than_their_labels_are_refused(boxes):
    cv2.imwrite(str(boxes / "a_1.png"), picture(0, 120, 200))
    rows = json.loads((boxes / "labels.json").read_text())
    (boxes / "labels.json").write_text(json.dumps([row | {"width": 200, "height": 120} for row in rows]))
    with pytest.raises(InputError, match=r"a_1\.png is 120x200, its labels were made for 200x120"):
        open_frames(str(boxes), split="all", **WHOLE).sample(0, 0)


@pytest.mark.parametrize(("box", "named"), [((300, 40, 30, 20), "x=300"), ((50, 40, 0, 20), "0x20")])
def test_boxes_that_cannot_be_are_refused_before_anything_is_read(tmp_path, box, named):
    target = dict(zip("xywh", box, strict=True))
    folder = label_list(tmp_path / "s", [{"image": "a_1.png", "targets": [target]}])
    with pytest.raises(InputError, match=named):
        open_frames(str(folder), split="all", **WHOLE)


def test_crops_are_cut_by_the_runtimes_rule(boxes):
    crops = open_crops(str(boxes), split="all", **CROPS)
    wanted = np.empty((32, 32, 3), np.uint8)
    seen = {}
    for index in range(crops.count):
        sample = crops.sample(0, index)
        seen[sample.name] = sample
        if sample.is_target:
            cut_crop(
                picture({"a_1": 0, "a_2": 1, "b_1": 2, "b_2": 3}[sample.name[:3]]), Box(50, 40, 30, 20), 1.3, wanted
            )
            np.testing.assert_array_equal(sample.image_bgr, wanted)
            np.testing.assert_allclose(sample.heading, (1, 0), atol=1e-6)
            assert sample.source_px == 30 and sample.labels["letter"] == 0
        else:
            assert not (sample.image_bgr == (0, 0, 200)).all(axis=2).any()
            assert set(sample.labels.values()) == {-1} and not sample.heading.any()
    assert len(seen) == crops.count == 8 and sum(sample.is_target for sample in seen.values()) == 4


def test_ground_without_target_is_cut_clear_of_every_label(tmp_path):
    marks = [{"x": x, "y": y, "w": 8, "h": 8} for x in range(10, 190, 60) for y in (20, 80)]
    folder = label_list(tmp_path / "s", [{"image": f"{f}_1.png", "targets": marks} for f in "abcdefgh"])
    for path in folder.glob("*.png"):
        image = np.full((120, 200, 3), 90, np.uint8)
        for mark in marks:
            image[mark["y"] : mark["y"] + 8, mark["x"] : mark["x"] + 8] = 255
        cv2.imwrite(str(path), image)
    crops = open_crops(str(folder), split="all", **{**CROPS, "margin": 3.0})
    samples = [crops.sample(0, index) for index in range(crops.count)]
    nothing = [sample for sample in samples if not sample.is_target]
    assert len(nothing) == 16 and all((sample.image_bgr == 90).all() for sample in nothing)


def test_what_is_ignored_or_tiny_is_not_cut_out_nor_called_ground(tmp_path):
    targets = [
        {"x": 50, "y": 40, "w": 30, "h": 20, "ignored": True},
        {"x": 5, "y": 5, "w": 7, "h": 7},
        {"x": 100, "y": 40, "w": 30, "h": 20, "degrees": 30},
    ]
    folder = label_list(tmp_path / "s", [{"image": "a_1.png", "targets": targets, "complete": False}])
    crops = open_crops(str(folder), split="all", **CROPS)
    assert crops.count == 1
    np.testing.assert_allclose(crops.sample(0, 0).heading, (0.5, -(0.75**0.5)), atol=1e-6)
    rows = [{"image": "a_1.png", "targets": targets[:2], "complete": False}]
    with pytest.raises(InputError, match="no target of 8 px or more"):
        open_crops(str(label_list(tmp_path / "t", rows)), split="all", **CROPS)


def test_training_crops_are_a_little_off_and_never_mirrored(boxes):
    for path in boxes.glob("*.png"):
        image = cv2.imread(str(path))
        image[42:50, 52:60] = (0, 250, 0)  # in the upper left of the target
        cv2.imwrite(str(path), image)
    crops, places = open_crops(str(boxes), split="train", **CROPS), []
    for epoch in range(6):
        for index in range(crops.count):
            sample = crops.sample(epoch, index)
            np.testing.assert_array_equal(sample.image_bgr, crops.sample(epoch, index).image_bgr)
            if sample.is_target:
                green = sample.image_bgr[..., 1].astype(int) - sample.image_bgr[..., 2]
                places.append(np.argwhere(green > 100).mean(axis=0))
    rows, columns = np.transpose(places)
    assert rows.max() < 16 and columns.max() < 16
    assert np.ptp(rows) > 1 and np.ptp(columns) > 1


def test_pictures_that_are_crops_are_taken_whole(tmp_path):
    folder = tmp_path / "crops"
    folder.mkdir()
    cv2.imwrite(str(folder / "a_1.png"), picture(0, 90, 90))
    (folder / "labels.json").write_text(json.dumps([{"image": "a_1.png", **STAR}]))
    crops = open_crops(str(folder), split="all", **CROPS)
    assert crops.count == 1
    sample = crops.sample(0, 0)
    whole = cv2.resize(picture(0, 90, 90), (32, 32), interpolation=cv2.INTER_AREA)
    assert np.abs(sample.image_bgr.astype(int) - whole).mean() < 6
    assert sample.source_px == pytest.approx(90 / 1.3, abs=1) and sample.is_target
    with pytest.raises(InputError, match="a segmenter learns from frames"):
        open_frames(str(folder), split="all", **WHOLE)


def test_sources_are_never_on_both_sides(boxes):
    sides = {}
    for split in ("train", "val"):
        frames, crops = open_frames(str(boxes), split=split, **WHOLE), open_crops(str(boxes), split=split, **CROPS)
        names = {frames.sample(0, k).name for k in range(frames.count)}
        assert {crops.sample(0, k).name.split()[0] for k in range(crops.count)} == names
        sides[split] = {name[0] for name in names}
    assert sides["train"] | sides["val"] == {"a", "b"} and not sides["train"] & sides["val"]


def test_a_copy_is_a_dataset_with_the_same_labels_and_a_fixed_split(boxes, tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.main(["dataset", "--from", str(boxes), "--out", str(out)]) == 0
    assert "4 photos of 2 sources, 2 to train on, 2 held out" in capsys.readouterr().out
    assert (out / "images" / "a_1.png").read_bytes() == (boxes / "a_1.png").read_bytes()
    before, after = open_frames(str(boxes), split="all", **WHOLE), open_frames(str(out), split="all", **WHOLE)
    for index in range(4):
        one, other = before.sample(0, index), after.sample(0, index)
        assert (one.name, one.targets) == (other.name, other.targets)
        np.testing.assert_array_equal(one.mask, other.mask)
        np.testing.assert_array_equal(one.ignore, other.ignore)
    held_out = {open_frames(str(out), split="val", **{**WHOLE, "seed": seed}).sample(0, 0).name for seed in range(9)}
    assert len(held_out) == 1
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["statistics"]["classes"]["shape"]["star"] == 4 and manifest["splits"] == {"train": 2, "val": 2}


def test_copies_that_cannot_be_leave_nothing_behind(boxes, tmp_path, capsys):
    out = tmp_path / "out"
    (boxes / "b_2.png").write_bytes(b"no picture")
    rows = json.loads((boxes / "labels.json").read_text())
    (boxes / "labels.json").write_text(json.dumps([row | {"width": 200, "height": 120} for row in rows]))
    assert cli.main(["dataset", "--from", str(boxes), "--out", str(out)]) == 3
    assert "b_2.png" in capsys.readouterr().err and not out.exists()
    for words, code, named in (
        (["--from", str(boxes), "--kind", "crops"], 2, "--kind cannot be given with --from"),
        (["--from", str(boxes), "--count", "3", "--size", "64x64"], 2, "--count and --size"),
    ):
        assert cli.main(["dataset", "--out", str(out), *words]) == code
        assert named in capsys.readouterr().err


def test_names_outside_the_folder_are_not_copied(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), picture())
    folder = tmp_path / "labels"
    folder.mkdir()
    (folder / "labels.json").write_text(
        json.dumps([{"image": "../a.png", "targets": [], "source": s} for s in "ab"][:1])
    )
    assert cli.main(["dataset", "--from", str(folder), "--out", str(tmp_path / "out"), "--val", "0"]) == 3
    assert not (tmp_path / "out").exists()


def test_one_source_and_a_held_out_share_do_not_go_together(tmp_path):
    folder = label_list(tmp_path / "s", [{"image": f"a_{k}.png", "targets": []} for k in range(3)])
    with pytest.raises(UsageError, match="one source, 'a'"):
        open_frames(str(folder), split="train", **WHOLE)
    assert cli.main(["dataset", "--from", str(folder), "--out", str(tmp_path / "out"), "--val", "0"]) == 0
    assert open_frames(str(tmp_path / "out"), split="train", **WHOLE).count == 3
    with pytest.raises(InputError, match="holds no val pictures"):
        open_frames(str(tmp_path / "out"), split="val", **WHOLE)
