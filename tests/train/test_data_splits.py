"""Splits: whole sources, about the share that was asked for, the same for everybody."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from aerial_runtime.card import load_label_space
from aerial_runtime.errors import InputError, UsageError
from aerial_train import cli
from aerial_train.data import open_frames
from aerial_train.data.opening import open_backgrounds
from aerial_train.data.photos import Photo
from aerial_train.data.splits import is_held_out, source_of, with_splits

SUAS = load_label_space("suas")


def photos_of(sizes, split=""):
    return [
        Photo(Path("x"), f"{source}_{k}.jpg", 64, 48, source, split=split)
        for source, size in sizes.items()
        for k in range(size)
    ]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("flight_000812.jpg", "flight"),
        ("DJI_0012.JPG", "DJI"),
        ("flight2_000812.jpg", "flight2"),
        ("monday/0003.png", "monday"),
        ("images/train/monday_17.png", "monday"),
        ("monday_17_jpg.rf.0a1b2c3d4e5f.jpg", "monday"),
        ("field/a/12.jpg", "field/a"),
        ("overview.jpg", "overview"),
        ("0001.jpg", ""),
    ],
)
def test_a_source_is_the_folder_and_the_name_before_the_last_number(name, source):
    assert source_of(name) == source


def test_whole_sources_are_held_out_and_about_the_share():
    sizes = {f"flight{k}": 10 + k for k in range(20)}
    found = with_splits(photos_of(sizes), 0.2, 0, "here")
    sides = {photo.source: set() for photo in found}
    for photo in found:
        sides[photo.source].add(photo.split)
    assert all(len(side) == 1 for side in sides.values())
    held_out = sum(photo.split == "val" for photo in found)
    assert held_out / len(found) == pytest.approx(0.2, abs=0.04)
    assert [photo.split for photo in with_splits(photos_of(sizes), 0.2, 0, "here")] == [photo.split for photo in found]
    assert [photo.split for photo in with_splits(photos_of(sizes), 0.2, 1, "here")] != [photo.split for photo in found]


@pytest.mark.parametrize(("share", "held_out"), [(0.1, 2), (0.3, 5), (0.5, 10), (0.01, 2)])
def test_of_few_sources_those_are_taken_that_come_near_the_share(share, held_out):
    for seed in range(20):
        found = with_splits(photos_of({"a": 10, "b": 5, "c": 3, "d": 2}), share, seed, "here")
        assert abs(sum(photo.split == "val" for photo in found) - held_out) <= 1 + (share > 0.2)


def test_both_sides_have_something_where_there_are_two_sources():
    for sizes in ({"a": 90, "b": 1}, {"a": 1, "b": 1}, {"a": 50, "b": 50}):
        for share in (0.01, 0.1, 0.9):
            assert {photo.split for photo in with_splits(photos_of(sizes), share, 0, "here")} == {"train", "val"}


def test_one_source_cannot_be_divided():
    with pytest.raises(UsageError, match=r"one source, 'a'.*--val 0"):
        with_splits(photos_of({"a": 9}), 0.1, 0, "here")
    assert {photo.split for photo in with_splits(photos_of({"a": 9}), 0, 0, "here")} == {"train"}


def test_given_splits_are_kept_and_half_given_ones_refused():
    given = photos_of({"a": 3}, "train") + photos_of({"a": 1}, "val")
    assert with_splits(given, 0.5, 0, "here") == given
    with pytest.raises(InputError, match="3 of 5 pictures have a split"):
        with_splits(photos_of({"a": 3}, "train") + photos_of({"b": 2}), 0.5, 0, "here")


def test_drawn_pictures_are_held_out_evenly():
    for share, total in ((0.1, 1000), (0.25, 400), (0.0, 50)):
        chosen = [is_held_out(index, share) for index in range(total)]
        assert sum(chosen) == round(share * total)
        assert all(abs(sum(chosen[:k]) - share * k) <= 1 for k in range(total))


def test_photos_under_scenes_are_held_out_by_flight(tmp_path):
    for flight, count in (("lake", 7), ("park", 6), ("city", 4), ("field", 3)):
        for number in range(count):
            cv2.imwrite(str(tmp_path / f"{flight}_{number}.png"), np.full((40, 40, 3), number, np.uint8))
    files = {split: set(open_backgrounds(tmp_path, split).photo_files) for split in ("train", "val", "all")}
    flights = {split: {Path(file).name.split("_")[0] for file in found} for split, found in files.items()}
    assert flights["val"] and not flights["val"] & flights["train"]
    assert files["train"] | files["val"] == files["all"] and len(files["all"]) == 20
    assert 1 <= len(files["val"]) <= 6
    val = open_frames(
        "scenes", space=SUAS, split="val", recipe="flight", backgrounds=tmp_path, seed=7, size=(64, 64), stride=4
    )
    assert set(val.backgrounds.photo_files) == files["val"], "the same ones for every seed"


def test_photos_of_one_flight_serve_both_sides(tmp_path):
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"lake_{number}.png"), np.zeros((40, 40, 3), np.uint8))
    assert [len(open_backgrounds(tmp_path, split).photo_files) for split in ("train", "val", "all")] == [3, 3, 3]
    assert open_backgrounds(None, "val").photo_files == []


def test_sources_are_never_on_both_sides(boxes, photo_kit):
    sides = {}
    for split in ("train", "val"):
        frames, crops = photo_kit.whole(boxes, split=split), photo_kit.crops(boxes, split=split)
        names = {frames.sample(0, k).name for k in range(frames.count)}
        assert {crops.sample(0, k).name.split()[0] for k in range(crops.count)} == names
        sides[split] = {name[0] for name in names}
    assert sides["train"] | sides["val"] == {"a", "b"} and not sides["train"] & sides["val"]


def test_one_source_and_a_held_out_share_do_not_go_together(tmp_path, photo_kit):
    folder = photo_kit.label_list(tmp_path / "s", [{"image": f"a_{k}.png", "targets": []} for k in range(3)])
    with pytest.raises(UsageError, match="one source, 'a'"):
        photo_kit.whole(folder, split="train")
    assert cli.main(["dataset", "--from", str(folder), "--out", str(tmp_path / "out"), "--val", "0"]) == 0
    assert photo_kit.whole(tmp_path / "out", split="train").count == 3
    with pytest.raises(InputError, match="holds no val pictures"):
        photo_kit.whole(tmp_path / "out", split="val")
