"""`aerial-train dataset`: what is written reads back as it was drawn, whole or interrupted."""

import errno
import json
import os
import signal
from dataclasses import asdict

import cv2
import numpy as np
import pytest

from aerial_runtime.card import load_label_space
from aerial_runtime.errors import InputError, ResourceError
from aerial_train import cli
from aerial_train.data import open_crops, open_frames, write_crops, write_frames
from aerial_train.data.manifest import Manifest, new_folder, write_whole
from aerial_train.data.opening import open_backgrounds, scene_seed
from aerial_train.data.splits import is_held_out
from aerial_train.data.write import write_scenes
from aerial_train.data.write_crops import CropWriter
from aerial_train.data.write_frames import FOLDERS, FrameWriter, outlines
from aerial_train.scenes.backgrounds import Backgrounds
from aerial_train.scenes.crops import CROP_RECIPES, CropScenes
from aerial_train.scenes.frames import FRAME_RECIPES, FrameScenes

SUAS = load_label_space("suas")
ANY = {"space": SUAS, "recipe": "flight", "backgrounds": None, "seed": 0}
WHOLE = {**ANY, "size": None, "stride": 4}
CROPS = {**ANY, "crop_size": 64, "margin": 1.3}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder with one plain picture to draw on: procedural terrain takes longer."""
    folder = tmp_path_factory.mktemp("ground")
    cv2.imwrite(str(folder / "0.png"), np.random.default_rng(0).integers(60, 160, (300, 400, 3), np.uint8))
    return folder


@pytest.fixture(scope="module")
def ground(photos):
    """That picture and no terrain."""
    return Backgrounds(photos, terrain_share=0.0)


def write(folder, *words):
    assert cli.main(["dataset", "--out", str(folder), "--val", "0", *map(str, words)]) == 0
    return folder


def test_frames_read_back_as_they_were_drawn(tmp_path, photos):
    words = ("--count", 4, "--size", "130x70", "--seed", 3, "--backgrounds", photos)
    folder = write(tmp_path / "d", *words)
    live = FrameScenes(SUAS, FRAME_RECIPES["flight"], Backgrounds(photos), 3).with_size(130, 70)
    read = open_frames(str(folder), split="all", **WHOLE)
    assert read.count == 4 and read.label_space == SUAS
    ours, theirs = read.batch(0, range(4)), live.batch(0, range(4))
    for field in ("images", "coverage", "weight"):
        np.testing.assert_array_equal(getattr(ours, field), getattr(theirs, field))
    for index in range(4):
        assert read.sample(0, index).targets == live.sample(0, index).targets
        assert read.sample(0, index).name == f"{index:06d}.bmp"


def test_crops_read_back_as_they_were_drawn(tmp_path, photos):
    folder = write(tmp_path / "d", "--kind", "crops", "--count", 9, "--backgrounds", photos)
    live = CropScenes(SUAS, CROP_RECIPES["flight"], Backgrounds(photos))
    read = open_crops(str(folder), split="train", **CROPS)
    assert read.count == 9
    drawn = [live.sample(0, index) for index in range(9)]
    found = {sample.name: sample for sample in (read.sample(5, index) for index in range(9))}
    batch = read.batch(5, range(9))
    for index, sample in enumerate(drawn):
        other = found[f"crops-00000.npy[{index}]"]
        np.testing.assert_array_equal(sample.image_bgr, other.image_bgr)
        np.testing.assert_allclose(sample.heading, other.heading)
        assert (sample.labels, sample.is_target) == (other.labels, other.is_target)
        assert sample.source_px == pytest.approx(other.source_px)
    for index in range(9):
        sample = read.sample(5, index)
        np.testing.assert_array_equal(batch.crops[index], sample.image_bgr)
        assert {name: labels[index] for name, labels in batch.labels.items()} == sample.labels
        assert batch.is_target[index] == sample.is_target


def writer_of(kind, folder, ground, val=0.0):
    """A writer as the command makes it."""
    if kind == "frames":
        scenes = FrameScenes(SUAS, FRAME_RECIPES["flight"], ground).with_size(64, 48)
    else:
        scenes = CropScenes(SUAS, CROP_RECIPES["flight"], ground)
    manifest = Manifest(kind=kind, recipe="flight", settings=asdict(scenes.recipe), seed=0, label_space=SUAS)
    new_folder(folder, *(FOLDERS if kind == "frames" else ()))
    return (FrameWriter if kind == "frames" else CropWriter)(scenes, scenes, folder, manifest, val)


@pytest.mark.parametrize(("kind", "count"), [("frames", 17), ("crops", 130)])
def test_the_number_of_processes_makes_no_difference(kind, count, tmp_path, ground):
    alone, helped = tmp_path / "alone", tmp_path / "helped"
    assert write_scenes(writer_of(kind, alone, ground), count, 1) == 0
    assert write_scenes(writer_of(kind, helped, ground), count, 2) == 0
    files = sorted(path.relative_to(alone) for path in alone.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(helped) for path in helped.rglob("*") if path.is_file())
    same = [name for name in files if (alone / name).read_bytes() == (helped / name).read_bytes()]
    assert same == files and len(files) >= 3


def test_coco_boxes_areas_and_polygons_fit_the_masks(tmp_path, photos):
    folder = write(tmp_path / "frames", "--count", 6, "--seed", 1, "--backgrounds", photos)
    coco = json.loads((folder / "labels.json").read_text())
    assert {image["file_name"] for image in coco["images"]} == {path.name for path in (folder / "images").iterdir()}
    assert coco["annotations"]
    assert min(row["id"] for row in coco["annotations"]) == min(image["id"] for image in coco["images"]) == 1
    assert len({row["id"] for row in coco["annotations"]}) == len(coco["annotations"])
    for row in coco["annotations"]:
        x, y, width, height = row["bbox"]
        assert 0 < row["area"] <= width * height and row["category_id"] == 1
        for polygon in row["segmentation"]:
            points = np.array(polygon).reshape(-1, 2)
            assert (points >= (x, y)).all() and (points <= (x + width, y + height)).all()
        points = np.concatenate([np.array(polygon).reshape(-1, 2) for polygon in row["segmentation"]])
        assert [*points.min(axis=0), *points.max(axis=0)] == [x, y, x + width, y + height]


def test_outlines_run_along_the_outer_edges_of_pixels():
    mask = np.zeros((9, 8), np.uint8)
    mask[2:6, 1:4] = mask[8, 7] = 1
    lone, block = outlines(mask)
    assert lone.min(axis=0).tolist() == [7, 8] and lone.max(axis=0).tolist() == [8, 9] and len(lone) == 4
    assert block.min(axis=0).tolist() == [1, 2] and block.max(axis=0).tolist() == [4, 6] and len(block) == 4


def test_splits_are_written_and_read(tmp_path, ground):
    for kind in ("frames", "crops"):
        assert write_scenes(writer_of(kind, tmp_path / kind, ground, val=0.25), 20, 1) == 0
        manifest = json.loads((tmp_path / kind / "manifest.json").read_text())
        assert manifest["count"] == 20 and manifest["splits"] == {"train": 15, "val": 5}
    for split, count in (("train", 15), ("val", 5), ("all", 20)):
        frames = open_frames(str(tmp_path / "frames"), split=split, **WHOLE)
        crops = open_crops(str(tmp_path / "crops"), split=split, **CROPS)
        assert frames.count == crops.count == count
        assert len({crops.sample(0, index).name for index in range(count)}) == count


def test_what_is_held_out_is_drawn_on_photos_and_from_seeds_that_no_training_has(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for flight in range(10):
        for number in range(2):
            cv2.imwrite(str(photos / f"flight{flight}_{number}.png"), np.full((90, 90, 3), 10 + 20 * flight, np.uint8))
    words = ("--count", "40", "--val", "0.25", "--seed", "3", "--backgrounds", str(photos))
    assert cli.main(["dataset", "--out", str(tmp_path / "c"), "--kind", "crops", *words]) == 0
    assert cli.main(["dataset", "--out", str(tmp_path / "f"), "--size", "64x48", *words]) == 0
    for split in ("train", "val"):
        # Row i of the dataset is sample i of the split's own scenes.
        rows = [index for index in range(40) if is_held_out(index, 0.25) == (split == "val")]
        seed = scene_seed(3, split)
        crops = CropScenes(SUAS, CROP_RECIPES["flight"], open_backgrounds(photos, split), seed)
        packed = open_crops(str(tmp_path / "c"), split=split, **CROPS)
        read = [packed.sample(0, k) for k in range(len(rows))]
        drawn = [crops.sample(0, index) for index in rows]
        found, wanted = ({s.image_bgr.tobytes() for s in some if s.is_target} for some in (read, drawn))
        assert found == wanted  # what is no target comes turned and mirrored
        frames = FrameScenes(SUAS, FRAME_RECIPES["flight"], open_backgrounds(photos, split), seed).with_size(64, 48)
        written = open_frames(str(tmp_path / "f"), split=split, **WHOLE)
        found = {written.sample(0, k).image_bgr.tobytes() for k in range(len(rows))}
        assert found == {frames.sample(0, index).image_bgr.tobytes() for index in rows}
    assert not set(open_backgrounds(photos, "train").photo_files) & set(open_backgrounds(photos, "val").photo_files)


def test_manifests_say_what_is_in_it_and_how_it_was_made(tmp_path, ground):
    assert write_scenes(writer_of("crops", tmp_path / "c", ground), 40, 1) == 0
    manifest = json.loads((tmp_path / "c" / "manifest.json").read_text())
    assert manifest["schema"] == "aerial.dataset/2" and manifest["generator"].startswith("aerial ")
    assert (manifest["kind"], manifest["recipe"], manifest["seed"]) == ("crops", "flight", 0)
    assert manifest["settings"]["margin"] == 1.3 and manifest["label_space"]["name"] == "suas"
    live = CropScenes(SUAS, CROP_RECIPES["flight"], ground)
    drawn = [live.sample(0, index) for index in range(40)]
    found, targets = manifest["statistics"], [sample for sample in drawn if sample.is_target]
    assert (found["pictures"], found["targets"]) == (40, len(targets))
    assert found["share_without_target"] == pytest.approx(1 - len(targets) / 40)
    for head in SUAS.heads:
        named = [head.classes[s.labels[head.name]] for s in targets if s.labels[head.name] >= 0]
        assert {word: count for word, count in found["classes"][head.name].items() if word in head.classes} == {
            word: named.count(word) for word in head.classes
        }
    sizes = [sample.source_px for sample in targets]
    assert found["size_px"]["percentiles"]["50"] == pytest.approx(np.median(sizes), abs=0.1)
    assert found["size_px"]["histogram"]["25-40"] == sum(25 <= size < 40 for size in sizes)
    means = np.mean([sample.image_bgr.mean(axis=(0, 1)) for sample in drawn], axis=0)
    np.testing.assert_allclose(found["mean_bgr"], means, atol=0.01)


class Stops:
    """Scenes that raise at a sample."""

    def __init__(self, scenes, at, error):
        self.scenes, self.at, self.error = scenes, at, error

    def __getattr__(self, name):
        return getattr(self.scenes, name)

    def sample(self, epoch, index):
        if index == self.at:
            raise self.error
        return self.scenes.sample(epoch, index)


@pytest.mark.parametrize(("kind", "left"), [("frames", 16), ("crops", 128)])
def test_ctrl_c_leaves_a_smaller_dataset(kind, left, tmp_path, ground, capsys):
    writer = writer_of(kind, tmp_path / "d", ground, val=0.25)
    writer.scenes = Stops(writer.scenes, left + 2, KeyboardInterrupt())
    assert write_scenes(writer, 200, 1) == 130
    assert f"{left} {kind}, interrupted of 200" in capsys.readouterr().out
    assert not list((tmp_path / "d").rglob("*.part"))
    opened = open_frames if kind == "frames" else open_crops
    assert opened(str(tmp_path / "d"), split="all", **(WHOLE if kind == "frames" else CROPS)).count == left
    assert opened(str(tmp_path / "d"), split="val", **(WHOLE if kind == "frames" else CROPS)).count == left // 4
    assert json.loads((tmp_path / "d" / "manifest.json").read_text())["statistics"]["pictures"] == left
    if kind == "frames":
        assert len(list((tmp_path / "d" / "images").iterdir())) == left


def test_a_process_that_is_killed_is_told_and_the_rest_kept(tmp_path, ground):
    class Killed(Stops):
        def sample(self, epoch, index):
            if index == self.at:
                os.kill(os.getpid(), signal.SIGKILL)
            return self.scenes.sample(epoch, index)

    writer = writer_of("frames", tmp_path / "d", ground)
    writer.scenes = Killed(writer.scenes, 100, None)
    with pytest.raises(ResourceError, match="a process that draws was killed"):
        write_scenes(writer, 200, 2)
    assert 0 < open_frames(str(tmp_path / "d"), split="all", **WHOLE).count <= 96


def test_an_error_in_a_scene_is_told_and_the_rest_kept(tmp_path, ground):
    writer = writer_of("frames", tmp_path / "d", ground)
    writer.scenes = Stops(writer.scenes, 9, InputError("cannot read the background x.jpg"))
    with pytest.raises(InputError, match=r"x\.jpg"):
        write_scenes(writer, 40, 1)
    assert open_frames(str(tmp_path / "d"), split="all", **WHOLE).count == 8


FULL = OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_the_shards_that_are_whole(tmp_path, ground, monkeypatch):
    whole = write_crops.write_shard

    def write_two(folder, number, crops, labels):
        if number == 2:
            raise FULL
        whole(folder, number, crops, labels)

    monkeypatch.setattr(write_crops, "write_shard", write_two)
    monkeypatch.setattr(write_crops, "SHARD_CROPS", 64)
    with pytest.raises(ResourceError, match=r"only 128 of 500 crops .*No space left"):
        write_scenes(writer_of("crops", tmp_path / "d", ground), 500, 1)
    assert open_crops(str(tmp_path / "d"), split="all", **CROPS).count == 128
    assert json.loads((tmp_path / "d" / "manifest.json").read_text())["count"] == 128


def test_on_a_full_disk_the_last_frames_make_room_for_the_labels(tmp_path, ground, monkeypatch):
    whole = write_frames.write_coco

    def write_small(path, images, annotations):
        if len(images) > 12:
            raise FULL
        whole(path, images, annotations)

    monkeypatch.setattr(write_frames, "write_coco", write_small)
    writer = writer_of("frames", tmp_path / "d", ground)
    writer.scenes = Stops(writer.scenes, 17, FULL)
    with pytest.raises(ResourceError, match=r"only 12 of 40 frames .*No space left"):
        write_scenes(writer, 40, 1)
    assert len(list((tmp_path / "d" / "images").iterdir())) == len(list((tmp_path / "d" / "masks").iterdir())) == 12
    assert open_frames(str(tmp_path / "d"), split="all", **WHOLE).count == 12


def test_nothing_at_all_on_a_full_disk_is_said(tmp_path, ground, monkeypatch):
    def fail(*_):
        raise FULL

    monkeypatch.setattr(write_frames, "write_coco", fail)
    with pytest.raises(ResourceError, match="only 0 of 9 frames"):
        write_scenes(writer_of("frames", tmp_path / "d", ground), 9, 1)


def test_files_are_whole_or_not_there(tmp_path):
    def torn(file):
        file.write(b"half")
        raise FULL

    write_whole(tmp_path / "a", lambda file: file.write(b"old"))
    with pytest.raises(OSError, match="No space"):
        write_whole(tmp_path / "a", torn)
    assert [path.name for path in tmp_path.iterdir()] == ["a"] and (tmp_path / "a").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (["--recipe", "r32"], 2, "nearest known are r256"),
        (["--kind", "crops", "--recipe", "flihgt"], 2, "nearest known are flight"),
        (["--count", "0"], 2, "--count"),
        (["--workers", "0"], 2, "--workers"),
        (["--size", "big"], 2, "'big'"),
        (["--size", "4x4"], 2, "16x16"),
        (["--kind", "crops", "--size", "64x64"], 2, "--size cannot be given with --kind crops"),
        (["--crop-size", "64", "--margin", "1.5"], 2, "--crop-size and --margin cannot be given with --kind frames"),
        (["--kind", "crops", "--margin", "0"], 2, "margin"),
        (["--kind", "crops", "--crop-size", "0"], 2, "at least 8 px"),
        (["--val", "1"], 2, "--val"),
        (["--val", "0.1", "--count", "5"], 2, "leaves one side empty"),
        (["--backgrounds", "none"], 3, "none"),
        (["--out", "/dev/null/x"], 5, "/dev/null/x"),
        (["--from", "none"], 3, "none"),
    ],
)
def test_bad_requests_are_refused_before_anything_is_made(words, code, named, tmp_path, capsys):
    out = [] if "--out" in words else ["--out", str(tmp_path / "d")]
    assert cli.main(["dataset", *out, *words]) == code
    error = capsys.readouterr().err
    assert named in error and error.count("\n") == 1 and not (tmp_path / "d").exists()


def test_datasets_are_not_written_over(tmp_path, capsys):
    (tmp_path / "d").mkdir()
    assert cli.main(["dataset", "--out", str(tmp_path / "d")]) == 5
    assert "File exists" in capsys.readouterr().err
