"""Maps made in tiles beside maps made at once."""

from __future__ import annotations

from importlib.resources import files

import cv2
import msgspec
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from aerial_runtime.backends import open_backend
from aerial_runtime.backends.fake import FakeBackend
from aerial_runtime.bundle import Bundle
from aerial_runtime.config import SEGMENTER_FILE, SHIPPED_MODELS
from aerial_runtime.errors import UsageError
from aerial_runtime.segment import Segmenter, find_candidates, mask_level
from aerial_runtime.tile import GRID_PX, OVERLAP_PX, Tiling, spans

STRIDE = 4
BLUR_PX = 31  # how far the fake network sees to either side of a pixel


def blurred_red(frame):
    """A network that sees its surroundings: the mean red of a square, of what the frame holds of it, in each cell."""
    red = frame[0, ..., 2].astype(np.float32)
    # Whole numbers below 2 ** 24 add up exactly in any order: tiles must not differ by a single level.
    side = (2 * BLUR_PX + 1,) * 2
    total = cv2.boxFilter(red, cv2.CV_32F, side, normalize=False, borderType=cv2.BORDER_CONSTANT)
    return {"probability": np.minimum(total[::STRIDE, ::STRIDE] // 1000, 255).astype(np.uint8)[np.newaxis]}


def own_pixels(frame):
    """A network that sees nothing but a cell's own pixels."""
    return {"probability": np.ascontiguousarray(frame[:, ::STRIDE, ::STRIDE, 2])}


def segmenters(kit, network, tile, overlap_px):
    backend = FakeBackend(kit.segmenter_card(), network)
    return Segmenter(backend, 10_000), Segmenter(backend, 10_000, tile=tile, overlap_px=overlap_px)


@st.composite
def layouts(draw, least_overlap_px=0):
    """Return a frame's size, a tile's size, and an overlap."""
    overlap_px = draw(st.integers(least_overlap_px, 200))
    width, height = (draw(st.integers(1, 700)) for _ in "wh")
    tile = tuple(draw(st.integers(overlap_px + GRID_PX, 400)) for _ in "wh")
    return width, height, tile, overlap_px


def engine(kit, width, height, network):
    """A segmenter that takes one size alone, as an engine does."""
    card = kit.segmenter_card()
    spec = msgspec.structs.replace(card.inputs[0], shape=(1, height, width, 3))
    return FakeBackend(msgspec.structs.replace(card, inputs=(spec,)), network)


def test_every_tile_of_an_engine_has_its_size(kit):
    rng = np.random.default_rng(0)
    sizes = []

    def see(frame):
        sizes.append(frame.shape)
        return own_pixels(frame)

    backend = engine(kit, 320, 256, see)
    tiled = Segmenter(backend, 10_000, tile=(320, 256), overlap_px=64)
    for width, height in ((701, 500), (320, 256), (99, 300), (1, 1)):  # longer, the same, shorter
        frame = np.where(rng.random((height, width, 3)) < 0.5, 255, 0).astype(np.uint8)
        assert np.array_equal(tiled.probability(frame), frame[::STRIDE, ::STRIDE, 2]), (width, height)
    assert set(sizes) == {(1, 256, 320, 3)}
    with pytest.raises(UsageError, match=r"320x256 alone; give --tile 320x256"):
        Segmenter(backend, tile=(640, 256))


@given(layout=layouts(), seed=st.integers(0, 999), share=st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_a_network_of_no_surroundings_needs_no_overlap(kit, layout, seed, share):
    width, height, tile, overlap_px = layout
    red = np.where(np.random.default_rng(seed).random((height, width)) < share, 255, 0).astype(np.uint8)
    frame = np.dstack([red] * 3)
    whole, tiled = segmenters(kit, own_pixels, tile, overlap_px)
    assert np.array_equal(tiled.probability(frame), whole.probability(frame))
    assert tiled(frame) == whole(frame)


@given(layout=layouts(least_overlap_px=2 * BLUR_PX + STRIDE + 2), data=st.data())
@settings(max_examples=60, deadline=None)
def test_no_target_at_a_seam_is_lost_or_doubled(kit, layout, data):
    width, height, tile, overlap_px = layout
    step = (min(tile) - overlap_px) // GRID_PX * GRID_PX
    frame = np.zeros((height, width, 3), np.uint8)
    for _ in range(data.draw(st.integers(1, 8))):  # about the multiples of a step, where the seams are
        x, y = (data.draw(st.integers(0, 8)) * step + data.draw(st.integers(-20, overlap_px)) for _ in "xy")
        side = data.draw(st.integers(8, 300))
        frame[max(0, y) : max(0, y + side), max(0, x) : max(0, x + side)] = 255
    assume(frame.any())
    whole, tiled = segmenters(kit, blurred_red, tile, overlap_px)
    assert tiled(frame) == whole(frame)


def test_an_overlap_below_what_the_network_sees_shows(kit):
    """The negative control of the test above."""
    frame = np.full((300, 300, 3), 60, np.uint8)
    frame[:, 140:150] = 0
    whole, tiled = segmenters(kit, blurred_red, (128, 128), 0)
    assert not np.array_equal(tiled.probability(frame), whole.probability(frame))


@given(
    length=st.integers(1, 5000),
    step=st.integers(1, 20).map(lambda n: n * GRID_PX),
    overlap_px=st.integers(0, 300),
)
def test_what_the_tiles_keep_covers_the_axis_once(length, step, overlap_px):
    found = spans(length, step + overlap_px, step, STRIDE)
    assert [span.first for span in found] == [0, *(span.last for span in found[:-1])]
    assert found[-1].last == found[-1].stop == length
    for before, span in zip([None, *found], found, strict=False):
        assert span.start <= span.first < span.last <= span.stop <= span.start + step + overlap_px
        assert span.start % GRID_PX == 0 and span.first % STRIDE == 0
        if before:
            near = overlap_px // 2 // STRIDE * STRIDE
            assert span.first - span.start >= near and before.stop - before.last >= near


def test_no_tile_is_larger_than_asked_for(kit):
    seen = []

    def see(image):
        seen.append(image.shape)
        assert image.flags.c_contiguous
        return image[::STRIDE, ::STRIDE, 0]

    frame = np.random.default_rng(0).integers(0, 256, (500, 700, 3), np.uint8)
    joined = Tiling((300, 260), 60, STRIDE)(frame, see)
    assert np.array_equal(joined, frame[::STRIDE, ::STRIDE, 0])
    assert len(seen) == 12 and all(height <= 260 and width <= 300 for height, width, _ in seen)


def test_a_tile_as_wide_as_the_frame_is_not_copied():
    frame = np.zeros((900, 640, 3), np.uint8)
    parts = []
    Tiling((640, 320), 64, STRIDE)(frame, lambda image: parts.append(image) or image[::STRIDE, ::STRIDE, 0])
    assert len(parts) > 1 and all(np.shares_memory(part, frame) for part in parts)


def test_a_tile_beyond_all_memory_is_no_tile_at_all(kit):
    frame = np.full((90, 70, 3), 255, np.uint8)
    whole, tiled = segmenters(kit, own_pixels, (10_000_000, 10_000_000), OVERLAP_PX)
    assert tiled(frame) == whole(frame)


@pytest.mark.parametrize(
    ("tile", "overlap_px", "reason"),
    [
        ((256, 255), 192, r"--tile 256x255 is too small for an overlap of 192 px; give at least 256x256"),
        ((0, 512), 0, r"--tile 0x512 is too small"),
        ((512, 512), -1, r"--tile-overlap cannot be -1"),
    ],
)
def test_tiles_that_cannot_be(kit, tile, overlap_px, reason):
    with pytest.raises(UsageError, match=reason):
        segmenters(kit, own_pixels, tile, overlap_px)


@pytest.fixture(scope="module")
def shipped():
    with Bundle(SHIPPED_MODELS).unpacked() as folder, open_backend(folder / SEGMENTER_FILE, "cpu") as backend:
        yield backend


def demo_frame(index):
    path = files("aerial_runtime").joinpath("demo", f"flight_{index:03}.jpg")
    return cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)


@pytest.mark.parametrize("index", [0, 7, 16])
def test_the_shipped_segmenter_sees_the_same_in_tiles(shipped, index):
    frame = demo_frame(index)
    height, width = frame.shape[:2]
    whole, tiled = (Segmenter(shipped, tile=tile).probability(frame) for tile in (None, (448, 320)))
    # One level of 255, at a few cells: the engine adds up in another order for another size.
    difference = np.abs(whole.astype(int) - tiled)
    assert difference.max() <= 1 and (difference > 0).mean() < 1e-3
    level = mask_level(shipped.card.thresholds.mask)
    found, expected = (
        find_candidates(probability, level, shipped.card.stride, width, height).candidates
        for probability in (tiled, whole)
    )
    assert [candidate.box for candidate in found] == [candidate.box for candidate in expected] and found


def test_the_documented_overlap_is_what_the_shipped_segmenter_needs(shipped):
    """The negative control: half of it shows in the map."""
    frame = demo_frame(0)
    whole = Segmenter(shipped).probability(frame).astype(int)
    difference = [
        np.abs(whole - Segmenter(shipped, tile=(448, 320), overlap_px=overlap_px).probability(frame)).max()
        for overlap_px in (OVERLAP_PX, 0)
    ]
    assert difference[0] <= 1 < difference[1]
