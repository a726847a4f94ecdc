from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

from aerial_export.goldens import Golden, GoldenSet, goldens_beside, goldens_from_bytes, goldens_to_bytes
from aerial_runtime.errors import InputError
from aerial_runtime.label_file import LabelledBox

RNG = np.random.default_rng(0)


@pytest.fixture
def goldens():
    frame = RNG.integers(0, 256, (1, 8, 12, 3), dtype=np.uint8)
    mask = RNG.integers(0, 256, (1, 2, 3), dtype=np.uint8)
    scene = Golden(
        "scene", frame, {"p": mask}, {"p": 255 - mask}, is_scene=True, truth=(LabelledBox(1, 2, 3, 4, True),)
    )
    return GoldenSet("PyTorch 9", "w" * 64, "o" * 64, (scene, Golden("noise", frame + 1, {"p": mask}, {"p": mask})))


def same(one, other):
    for a, b in zip(one.inputs, other.inputs, strict=True):
        assert (a.name, a.is_scene, a.truth) == (b.name, b.is_scene, b.truth)
        for mine, theirs in ((a.answer, b.answer), (a.control, b.control), ({"": a.images}, {"": b.images})):
            assert mine.keys() == theirs.keys()
            assert all(np.array_equal(mine[key], theirs[key]) for key in mine)
    return replace(one, inputs=()) == replace(other, inputs=())


def test_they_survive_the_way_through_a_file(goldens):
    data = goldens_to_bytes(goldens)
    assert same(goldens_from_bytes(data, "here"), goldens)
    assert data == goldens_to_bytes(goldens)  # no time, no path: the same goldens are the same file


def test_damage_anywhere_is_one_sentence(goldens):
    data = goldens_to_bytes(goldens)
    for damaged in (b"", b"text", data[: len(data) // 2], data[:-30], data.replace(b"index", b"xedni")):
        with pytest.raises(InputError, match=r"the goldens in g\.npz are damaged") as caught:
            goldens_from_bytes(damaged, "g.npz")
        assert "\n" not in str(caught.value)
    for place in range(0, len(data), 37):
        bad = bytearray(data)
        bad[place] ^= 0xFF
        with suppress(InputError):  # or nobody reads this byte
            assert same(goldens_from_bytes(bytes(bad), "g.npz"), goldens)


@pytest.mark.parametrize("place", [8, 10])  # of flags, the lowest bit of which says encrypted; of the compression
def test_damage_of_a_directory_entry_is_one_sentence(goldens, place):
    bad = bytearray(goldens_to_bytes(goldens))
    bad[bad.index(b"PK\x01\x02") + place] ^= 1
    with pytest.raises(InputError, match=r"the goldens in g\.npz are damaged"):
        goldens_from_bytes(bytes(bad), "g.npz")


@pytest.mark.parametrize("name", ["m.onnx", "m.fp16.onnx", "m.orin.10.3.0.fp16.engine", "m.v2.onnx"])
def test_they_are_found_beside_what_was_made_of_the_model(goldens, tmp_path, kit, name):
    card = kit.segmenter_card(weights_sha256="w" * 64)
    stem = "m.v2" if name == "m.v2.onnx" else "m"
    (tmp_path / f"{stem}.goldens.npz").write_bytes(goldens_to_bytes(goldens))
    assert same(goldens_beside(tmp_path / name, card), goldens)


def test_missing_or_foreign_goldens_are_refused(goldens, tmp_path, kit):
    card = kit.segmenter_card(weights_sha256="v" * 64)
    with pytest.raises(InputError, match=r"m\.fp16\.onnx has no goldens beside it \(m\.goldens\.npz\)"):
        goldens_beside(tmp_path / "m.fp16.onnx", card)
    (tmp_path / "m.goldens.npz").write_bytes(goldens_to_bytes(goldens))
    with pytest.raises(
        InputError, match=r"m\.goldens\.npz belongs to other weights than m\.onnx \(wwwwwwwwwwww, not v"
    ):
        goldens_beside(tmp_path / "m.onnx", card)
