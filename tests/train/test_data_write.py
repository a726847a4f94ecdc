"""`aerial-train dataset`: what is written reads back as it was drawn, whole or interrupted."""

import json
from dataclasses import asdict

import cv2
import numpy as np
import pytest

from aerial_runtime.card import load_label_space
from aerial_train import cli
from aerial_train.data import open_crops, open_frames
from aerial_train.data.manifest import Manifest, new_folder
from aerial_train.data.write import write_scenes
from aerial_train.data.write_crops import CropWriter
from aerial_train.data.write_frames import FOLDERS, FrameWriter
from aerial_train.scenes.backgrounds import Backgrounds
from aerial_train.scenes.crops import CROP_RECIPES, CropScenes
from aerial_train.scenes.frames import FRAME_RECIPES, FrameScenes

SUAS = load_label_space("suas")
ANY = {"space": SUAS, "recipe": "flight", "backgrounds": None, "seed": 0}
WHOLE = {**ANY, "size": None, "stride": 4}
CROPS = {**ANY, "crop_size": 48, "margin": 1.3}


def write(folder, *words):
    assert cli.main(["dataset", "--out", str(folder), "--val", "0", *map(str, words)]) == 0
    return folder


def test_frames_read_back_as_they_were_drawn(tmp_path):
    folder = write(tmp_path / "d", "--count", 4, "--size", "130x70", "--seed", 3)
    live = FrameScenes(SUAS, FRAME_RECIPES["flight"], Backgrounds(None), 3).with_size(130, 70)
    read = open_frames(str(folder), split="all", **WHOLE)
    assert read.count == 4 and read.label_space == SUAS
    ours, theirs = read.batch(0, range(4)), live.batch(0, range(4))
    for field in ("images", "coverage", "weight"):
        np.testing.assert_array_equal(getattr(ours, field), getattr(theirs, field))
    for index in range(4):
        assert read.sample(0, index).targets == live.sample(0, index).targets
        assert read.sample(0, index).name == f"{index:06d}.png"


def test_crops_read_back_as_they_were_drawn(tmp_path):
    folder = write(tmp_path / "d", "--kind", "crops", "--count", 9)
    live = CropScenes(SUAS, CROP_RECIPES["flight"], Backgrounds(None))
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


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    """One plain picture to draw on: procedural terrain takes longer."""
    folder = tmp_path_factory.mktemp("ground")
    cv2.imwrite(str(folder / "0.png"), np.random.default_rng(0).integers(60, 160, (300, 400, 3), np.uint8))
    return Backgrounds(folder, terrain_share=0.0)


def writer_of(kind, folder, ground, val=0.0):
    """A writer as the command makes it."""
    if kind == "frames":
        scenes = FrameScenes(SUAS, FRAME_RECIPES["flight"], ground).with_size(64, 48)
    else:
        scenes = CropScenes(SUAS, CROP_RECIPES["flight"], ground)
    manifest = Manifest(kind=kind, recipe="flight", settings=asdict(scenes.recipe), seed=0, label_space=SUAS)
    new_folder(folder, *(FOLDERS if kind == "frames" else ()))
    return (FrameWriter if kind == "frames" else CropWriter)(scenes, folder, manifest, val)


@pytest.mark.parametrize(("kind", "count"), [("frames", 17), ("crops", 130)])
def test_the_number_of_processes_makes_no_difference(kind, count, tmp_path, ground):
    alone, helped = tmp_path / "alone", tmp_path / "helped"
    assert write_scenes(writer_of(kind, alone, ground), count, 1) == 0
    assert write_scenes(writer_of(kind, helped, ground), count, 2) == 0
    files = sorted(path.relative_to(alone) for path in alone.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(helped) for path in helped.rglob("*") if path.is_file())
    same = [name for name in files if (alone / name).read_bytes() == (helped / name).read_bytes()]
    assert same == files and len(files) >= 3


def test_coco_boxes_areas_and_polygons_fit_the_masks(tmp_path):
    folder = write(tmp_path / "frames", "--count", 6, "--seed", 1)
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
