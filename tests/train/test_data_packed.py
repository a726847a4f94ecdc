"""Packed crops: shuffled without loss, reduced where larger, and a sentence for whatever does not fit."""

import json
import pickle

import numpy as np
import pytest

from aerial_runtime.card import Head, LabelSpace, load_label_space
from aerial_runtime.errors import InputError
from aerial_train.data import open_crops, open_frames
from aerial_train.data.base import shuffled
from aerial_train.data.manifest import Manifest, write_manifest
from aerial_train.data.packed import CropLabels, write_shard

SUAS = load_label_space("suas")
ANY = {"space": SUAS, "recipe": "flight", "backgrounds": None, "seed": 0}
CROPS = {**ANY, "crop_size": 16, "margin": 1.3}
SIZES = (40, 40, 7)  # crops of each shard


@pytest.fixture
def folder(tmp_path):
    """87 crops in three shards, each of one colour: its number in blue, its shard in green."""
    folder = tmp_path / "d"
    folder.mkdir()
    number = 0
    for shard, size in enumerate(SIZES):
        crops = np.empty((size, 16, 16, 3), np.uint8)
        crops[..., 0] = (number + np.arange(size))[:, None, None]
        crops[..., 1], crops[..., 2] = shard, 9
        rows = number + np.arange(size)
        classes = np.stack([rows % len(head.classes) for head in SUAS.heads], axis=1).astype(np.int16)
        zeros = np.zeros((size, 2), np.float32)
        val = (rows % 10 == 9).astype(np.uint8)
        write_shard(folder, shard, crops, CropLabels(val * 0 + 1, classes, zeros, rows.astype(np.float32), val))
        number += size
    settings = {"size": 16, "margin": 1.3}
    write_manifest(
        folder, Manifest(kind="crops", recipe="flight", settings=settings, seed=0, label_space=SUAS, count=87)
    )
    return folder


def numbers(batch):
    return batch.crops[:, 0, 0, 0].tolist()


def test_every_epoch_is_every_crop_once_in_another_order(folder):
    for split, wanted in (("train", {k for k in range(87) if k % 10 != 9}), ("val", set(range(9, 87, 10)))):
        crops = open_crops(str(folder), split=split, **CROPS)
        first, second = (numbers(crops.batch(epoch, range(crops.count))) for epoch in (0, 1))
        assert set(first) == set(second) == wanted and len(first) == len(wanted)
        assert first != second and first != sorted(first)
        after = numbers(crops.batch(0, range(crops.count, 2 * crops.count)))
        assert set(after) == wanted and after != first
        assert numbers(crops.batch(0, range(3, 6))) == first[3:6]


def test_labels_stay_with_their_crops(folder):
    crops = open_crops(str(folder), split="all", **CROPS)
    batch = crops.batch(2, range(87))
    for place, number in enumerate(numbers(batch)):
        assert {name: values[place] for name, values in batch.labels.items()} == {
            head.name: number % len(head.classes) for head in SUAS.heads
        }
        sample = crops.sample(2, place)
        assert sample.source_px == number and sample.image_bgr[0, 0, 0] == number
        start = [0, 40, 80][sample.image_bgr[0, 0, 1]]
        assert sample.name == f"crops-0000{sample.image_bgr[0, 0, 1]}.npy[{number - start}]"
    assert all(values.dtype == np.int64 for values in batch.labels.values())
    sample.image_bgr[:] = 0  # the caller's own
    assert (crops.sample(2, 86).image_bgr[..., 2] == 9).all()


def test_a_worker_process_maps_the_files_itself(folder):
    crops = open_crops(str(folder), split="all", **CROPS)
    crops.batch(0, range(87))
    data = pickle.dumps(crops)
    assert len(data) < 87 * 16 * 16
    assert numbers(pickle.loads(data).batch(0, range(87))) == numbers(crops.batch(0, range(87)))


def test_larger_crops_are_reduced_and_smaller_ones_refused(folder):
    half = open_crops(str(folder), split="all", **{**CROPS, "crop_size": 8}).batch(0, range(87))
    assert half.crops.shape == (87, 8, 8, 3) and sorted(numbers(half)) == list(range(87))
    with pytest.raises(InputError, match=r"crops of 16 px, 24 px are asked for; train with --crop-size 16"):
        open_crops(str(folder), split="all", **{**CROPS, "crop_size": 24})


def test_what_does_not_fit_is_refused(folder, tmp_path):
    with pytest.raises(InputError, match=r"margin 1.3, 1.5 is asked for; give --margin 1.3"):
        open_crops(str(folder), split="all", **{**CROPS, "margin": 1.5})
    with pytest.raises(InputError, match="holds crops; a segmenter learns from frames"):
        open_frames(str(folder), split="all", size=None, stride=4, **ANY)
    shorter = tuple(h if h.name != "shape" else Head("shape", h.classes[:-1]) for h in SUAS.heads)
    other_heading = LabelSpace("suas", SUAS.heads, None)
    for space, named in (
        (LabelSpace("pads", (Head("kind", ("a", "b")),)), r"has the heads .*'pads' has \['kind'\]"),
        (LabelSpace("less", shorter, SUAS.heading), r"other classes of 'shape' than 'less' \(\['cross'\]\)"),
        (other_heading, "another heading"),
    ):
        with pytest.raises(InputError, match=named):
            open_crops(str(folder), split="all", **{**CROPS, "space": space})


def test_unfinished_and_damaged_shards(folder):
    (folder / "labels-00002.npz").unlink()  # the crops were written, the labels not yet
    assert open_crops(str(folder), split="all", **CROPS).count == 80
    crops = folder / "crops-00001.npy"
    crops.write_bytes(crops.read_bytes()[:-1])
    with pytest.raises(InputError, match="labels-00001"):
        open_crops(str(folder), split="all", **CROPS)
    crops.unlink()
    with pytest.raises(InputError, match="labels-00001"):
        open_crops(str(folder), split="all", **CROPS)
    for path in folder.glob("*.npz"):
        path.unlink()
    with pytest.raises(InputError, match="no finished shard"):
        open_crops(str(folder), split="all", **CROPS)


def test_manifests_that_are_none(folder):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    for content, named in (
        ("{", "not a dataset's manifest"),
        (json.dumps(manifest | {"schema": "aerial.dataset/1"}), r"another version \(aerial.dataset/1"),
        (json.dumps(manifest | {"kind": "films"}), "not a dataset's manifest"),
        (json.dumps(manifest | {"settings": {"size": 16}}), "need size and margin"),
    ):
        path.write_text(content)
        with pytest.raises(InputError, match=named):
            open_crops(str(folder), split="all", **CROPS)


def test_an_order_is_a_function_of_seed_and_epoch():
    orders = {(seed, epoch): tuple(shuffled(seed, epoch, range(50), 50)) for seed in (0, 1) for epoch in (-1, 0, 1)}
    assert len(set(orders.values())) == 6
    assert all(sorted(order) == list(range(50)) for order in orders.values())
    assert tuple(shuffled(1, 0, range(50), 50)) == orders[1, 0]


def test_what_is_no_target_comes_in_eight_ways_to_a_training_alone(tmp_path):
    folder = tmp_path / "d"
    folder.mkdir()
    crops = np.random.default_rng(0).integers(0, 255, (4, 16, 16, 3), np.uint8)
    classes, zeros = np.full((4, len(SUAS.heads)), -1, np.int16), np.zeros((4, 2), np.float32)
    is_target, val = np.array((0, 1, 0, 1), np.uint8), np.array((0, 0, 1, 1), np.uint8)
    write_shard(folder, 0, crops, CropLabels(is_target, classes, zeros, np.full(4, 16, np.float32), val))
    settings = {"size": 16, "margin": 1.3}
    write_manifest(folder, Manifest(kind="crops", recipe="mined", settings=settings, seed=0, label_space=SUAS, count=4))

    def seen(split):
        data = open_crops(str(folder), split=split, **CROPS)
        batch = data.batch(0, range(120))
        assert all(np.array_equal(data.sample(0, k).image_bgr, batch.crops[k]) for k in range(120))
        return {bytes(crop) for crop, target in zip(batch.crops, batch.is_target, strict=True) if not target}, {
            bytes(crop) for crop, target in zip(batch.crops, batch.is_target, strict=True) if target
        }

    turned = [np.rot90(crops[0], k) for k in range(4)]
    ways = {np.ascontiguousarray(way).tobytes() for way in (*turned, *(way[:, ::-1] for way in turned))}
    assert seen("train") == (ways, {crops[1].tobytes()})
    assert seen("val") == ({crops[2].tobytes()}, {crops[3].tobytes()})
