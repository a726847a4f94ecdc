from dataclasses import replace

import numpy as np
import pytest

from aerial_export import golden_inputs
from aerial_export.golden_inputs import draw_inputs, probe_crops, probe_frames, to_store
from aerial_export.goldens import Golden
from aerial_runtime.card import Head, LabelSpace
from aerial_train.checkpoint import load_checkpoint
from aerial_train.scenes import backgrounds


def test_probes_cover_odd_sizes_and_batches():
    sizes = {probe.images.shape[1:3] for probe in probe_frames()}
    assert {(133, 217), (37, 41), (1, 1)} <= sizes
    plain = [probe.images for probe in probe_frames() if probe.images.min() == probe.images.max()]
    assert {0, 255} <= {int(images.min()) for images in plain}
    assert [probe.images.shape[0] for probe in probe_crops(16)] == [1, 16, 2]


def test_scenes_hold_targets_of_all_sizes(save_segmenter, monkeypatch):
    monkeypatch.setattr(golden_inputs, "FRAMES", 12)
    monkeypatch.setattr(backgrounds, "TERRAIN_PICTURES", 2)
    inputs = draw_inputs(load_checkpoint(save_segmenter()).card)
    scenes = [item for item in inputs if item.is_scene]
    assert {item.images.shape for item in scenes} == {(1, 270, 483, 3), (1, 1080, 1920, 3)}
    sizes = [label.size_px for item in scenes for label in item.truth if label.scored]
    assert min(sizes) < 30 and max(sizes) > 90
    assert all(item.images.std() > 5 for item in scenes)


def test_crops_come_in_full_batches(save_classifier, monkeypatch):
    monkeypatch.setattr(golden_inputs, "CROPS", 200)
    monkeypatch.setattr(backgrounds, "TERRAIN_PICTURES", 2)  # each takes a tenth of a second
    inputs = draw_inputs(load_checkpoint(save_classifier()).card)
    assert [item.images.shape for item in inputs if item.is_scene] == [(100, 24, 24, 3)] * 2


@pytest.mark.parametrize("kind", ["segmenter", "classifier"])
def test_of_classes_that_scenes_cannot_draw_the_demo_flight_is_taken(kind, kit, capsys):
    space = LabelSpace("own", (Head("kind", ("tent", "boat")),))
    card = getattr(kit, f"{kind}_card")(label_space=space)
    inputs = draw_inputs(card)
    assert sum(len(item.images) for item in inputs if item.is_scene) > 50
    said = capsys.readouterr().out
    assert "scenes cannot draw 'kind'" in said and "the demo flight's take their place" in said


@pytest.fixture
def classifier_card(kit):
    return kit.classifier_card(label_space=LabelSpace("pads", (Head("kind", ("a", "b", "c")),)))


def test_only_crops_with_clear_labels_are_stored(classifier_card):
    kind = np.tile(np.float32([0.6, 0.3, 0.1]), (250, 1))
    kind[3] = 0.48, 0.5, 0.02
    target = np.full((250, 1), 0.9, np.float32)
    target[5] = 0.53
    crops = np.arange(250, dtype=np.uint8).repeat(16 * 16 * 3).reshape(250, 16, 16, 3)
    answer = {"kind": kind, "target": target, "heading": np.zeros((250, 2), np.float32)}
    parts = [slice(0, 100), slice(100, 250)]
    scenes = [
        Golden("s", crops[part], *({key: values[part] for key, values in answer.items()},) * 2, is_scene=True)
        for part in parts
    ]
    probe = Golden("noise", crops[:1], {}, {})
    kept = to_store(classifier_card, [probe, *scenes])
    assert kept[0] is probe
    assert [len(golden.images) for golden in kept] == [1, 1, 100]
    numbers = [int(crop[0, 0, 0]) for golden in kept[1:] for crop in golden.images]
    assert numbers == [n for n in range(103) if n not in (3, 5)]
    assert all(len(values) == len(golden.images) for golden in kept for values in golden.control.values())


def test_the_busiest_small_frames_are_stored(kit):
    from aerial_runtime.label_file import LabelledBox

    def golden(count, shape=(1, 270, 483, 3)):
        truth = tuple(LabelledBox(0, 0, 30, 30) for _ in range(count))
        return Golden(f"{count}", np.zeros(shape, np.uint8), {}, {}, is_scene=True, truth=truth)

    scenes = [golden(count) for count in (0, 3, 1, 5, 2, 4, 6)]
    large = replace(golden(9), images=np.zeros((1, 1080, 1920, 3), np.uint8))
    kept = to_store(kit.segmenter_card(), [large, *scenes])
    assert [item.name for item in kept] == ["6", "5", "4", "3"]
