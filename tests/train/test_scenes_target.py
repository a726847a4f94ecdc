"""What a target looks like and where it lies, as the labels say."""

import math

import cv2
import numpy as np
import pytest

from aerial_runtime.card import Head, LabelSpace, load_label_space
from aerial_runtime.errors import InputError
from aerial_train.scenes import colors
from aerial_train.scenes.glyphs import FONT_FILES, REFERENCE_FONTS, STROKES, glyph, glyph_variants
from aerial_train.scenes.shapes import SHAPES, stretch
from aerial_train.scenes.target import (
    NONE,
    REFERENCE_LETTER_HEIGHT,
    REFERENCE_STYLE,
    UNKNOWN,
    Style,
    at_pixels,
    check_drawable,
    letter_up,
    placement,
    sample_look,
    warp,
)

SUAS = load_label_space("suas")


def test_every_shape_fits_the_unit_circle_and_holds_its_letter_circle():
    for name, outline_of in SHAPES.items():
        for seed in range(20):
            outline, (x, y, radius) = outline_of(np.random.default_rng(seed))
            assert np.hypot(*outline.T).max() <= 1.01, name
            ring = [(x + 0.9 * radius * math.cos(a), y + 0.9 * radius * math.sin(a)) for a in np.linspace(0, 6.28, 16)]
            inside = [cv2.pointPolygonTest(outline.reshape(-1, 1, 2), p, False) >= 0 for p in ring]
            # A star's and a cross's letters may reach a little over the notches; every other shape holds the circle.
            assert sum(inside) >= (8 if name in ("star", "cross") else 16), name


def test_a_stretched_shape_keeps_its_corners_and_still_holds_its_letter_circle():
    for name, outline_of in SHAPES.items():
        ratios = []
        for seed in range(40):
            rng = np.random.default_rng(seed)
            plain, circle = outline_of(rng)
            outline, (x, y, radius) = stretch(rng, name, plain, circle, 0.12)
            assert outline.shape == plain.shape and np.hypot(*outline.T).max() <= 1.01
            wide, high = np.ptp(outline, axis=0) / np.ptp(plain, axis=0)
            ratios.append(wide / high)
            ring = [(x + 0.9 * radius * math.cos(a), y + 0.9 * radius * math.sin(a)) for a in np.linspace(0, 6.28, 16)]
            inside = [cv2.pointPolygonTest(outline.reshape(-1, 1, 2), p, False) >= 0 for p in ring]
            assert sum(inside) >= (8 if name in ("star", "cross") else 16), name
        assert np.std(ratios) > 0.02, name
        if name in ("circle", "square"):  # ovals and rectangles begin beside them
            assert max(ratios) < 1.15 and min(ratios) > 0.87


def test_shapes_have_their_number_of_corners():
    corners = {"triangle": 3, "square": 4, "rectangle": 4, "trapezoid": 4, "pentagon": 5, "hexagon": 6, "heptagon": 7,
               "octagon": 8, "star": 10, "cross": 12}  # fmt: skip
    for name, count in corners.items():
        assert len(SHAPES[name](np.random.default_rng(0))[0]) == count


def test_every_letter_has_contours_of_unit_height_in_every_look():
    for letter in STROKES:
        for variant in range(0, glyph_variants(), 3):
            points = np.concatenate(glyph(letter, variant))
            assert points[:, 1].min() == pytest.approx(-1, abs=0.03)
            assert points[:, 1].max() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("table", [colors.REFERENCE, colors.WIDE])
def test_colors_stay_in_their_ranges(table):
    import colorsys

    rng = np.random.default_rng(0)
    for ranges in table.values():
        for _ in range(50):
            blue, green, red = (float(v) / 255 for v in colors.sample_bgr(rng, ranges))
            hue, lightness, saturation = colorsys.rgb_to_hls(red, green, blue)
            assert any(
                low_l - 0.5 <= 100 * lightness <= high_l + 0.5
                and (100 * saturation <= high_s + 0.5 or lightness > 0.95 or lightness < 0.05)
                and (high_s <= 15 or (hue * 360 - low_h + 1) % 360 <= high_h - low_h + 2)
                for low_h, high_h, low_s, high_s, low_l, high_l in ranges
            )


def test_label_space_names_what_scenes_cannot_draw():
    unknown_head = LabelSpace("tents", (Head("kind", ("small", "large")),))
    with pytest.raises(InputError, match="cannot draw 'kind'"):
        check_drawable(unknown_head)
    unknown_class = LabelSpace("odd", (Head("shape", ("circle", "blob")),))
    with pytest.raises(InputError, match="'blob' is no shape"):
        check_drawable(unknown_class)
    check_drawable(SUAS)


def test_draw_entries_decide_what_is_drawn():
    pad = {"shape": "circle", "letter": "H", "shape_color": "black", "letter_color": "white"}
    space = LabelSpace("pads", (Head("kind", ("pad", "sign"), {"pad": pad, "sign": {"shape": "triangle"}}),))
    check_drawable(space)
    for seed in range(30):
        look = sample_look(np.random.default_rng(seed), space, Style(pink=1.0, no_letter=1.0))
        expected = pad if look.labels["kind"] == 0 else {"shape": "triangle"}
        assert {name: look.attributes[name] for name in expected} == expected


def test_letter_colors_that_are_drawn_by_an_entry_keep_it():
    draw = {"light": {"letter_color": "white"}, "dark": {"letter_color": "black"}}
    head = Head("letter_color", ("light", "dark"), draw)
    space = LabelSpace("shades", (head, Head("shape_color", ("white", "black"))))
    check_drawable(space)
    for seed in range(40):
        look = sample_look(np.random.default_rng(seed), space, Style())
        assert look.attributes["letter_color"] == draw[head.classes[look.labels["letter_color"]]]["letter_color"]


def test_labels_are_uniform_and_colors_differ():
    looks = [sample_look(np.random.default_rng(seed), SUAS, REFERENCE_STYLE) for seed in range(2600)]
    for head in SUAS.heads:
        counts = np.bincount([look.labels[head.name] for look in looks], minlength=len(head.classes))
        expected = len(looks) / len(head.classes)
        assert counts.min() > 0.5 * expected and counts.max() < 1.6 * expected, head.name
    assert all(look.attributes["shape_color"] != look.attributes["letter_color"] for look in looks)


def test_the_protocol_writes_in_sans_serifs_as_high_as_each_shape_has_them():
    names = [FONT_FILES[look][1].rsplit("/", 1)[-1] for look in REFERENCE_FONTS]
    assert len(names) == 14 and sum(name.startswith("Lato") for name in names) == 6
    assert not [name for name in names if any(word in name for word in ("Serif", "Amatic", "STIX", "Caladea", "Mono"))]
    for seed in range(200):
        look = sample_look(np.random.default_rng(seed), SUAS, REFERENCE_STYLE)
        shape = look.attributes["shape"]
        assert shape is not None
        # The look does not tell its circle, so the shape is drawn often to see how small and large that may be.
        half = float(np.ptp(np.concatenate(look.letter)[:, 1])) / 2
        radii = [SHAPES[shape](np.random.default_rng(other))[1][2] for other in range(300)]
        low, high = REFERENCE_LETTER_HEIGHT[shape]
        assert 0.97 * low * min(radii) <= half <= 1.03 * high * max(radii), shape


def test_blank_boards_and_pink_have_labels_of_their_own():
    blank = [sample_look(np.random.default_rng(s), SUAS, Style(no_letter=1.0, pink=0)) for s in range(5)]
    assert all(look.labels["letter"] == NONE and look.labels["letter_color"] == NONE for look in blank)
    assert all(not look.letter and letter_up(look, np.eye(3, dtype=np.float32)).tolist() == [0, 0] for look in blank)
    pink = [sample_look(np.random.default_rng(s), SUAS, Style(no_letter=0, pink=1.0)) for s in range(20)]
    assert all(UNKNOWN in (look.labels["shape_color"], look.labels["letter_color"]) for look in pink)


@pytest.mark.parametrize("degrees", [0, 45, 90, 180, 300])
def test_heading_points_where_the_letter_top_points(degrees):
    rng = np.random.default_rng(1)
    look = sample_look(rng, SUAS, REFERENCE_STYLE)
    up = letter_up(look, at_pixels(placement(rng, math.radians(degrees), 0.0), 20, 30, 30))
    assert math.degrees(math.atan2(up[0], -up[1])) % 360 == pytest.approx(degrees, abs=0.1)


def test_perspective_moves_corners_inwards_only_and_at_most_half():
    corners = np.array(((-1, -1), (1, -1), (1, 1), (-1, 1)), np.float32)
    for seed in range(50):
        moved = warp(placement(np.random.default_rng(seed), 0.0, 0.5), corners)
        assert (np.abs(moved) <= 1.0001).all() and (np.abs(moved) >= 0.4999).all()


def test_thin_paint_shows_the_board_but_stays_readable():
    def contrasts(thin_ink: float) -> list[float]:
        style = Style(thin_ink=thin_ink, no_letter=0.0, pink=0.0)
        looks = [sample_look(np.random.default_rng(seed), SUAS, style) for seed in range(200)]
        return [float(np.abs(look.shape_bgr - look.letter_bgr).sum()) for look in looks]

    thick, thin = contrasts(0.0), contrasts(1.0)
    assert np.median(thin) < 0.85 * np.median(thick)
    assert min(thin) >= min(Style().min_contrast, min(thick)) - 1


def test_letters_reach_into_the_arms_of_stars_and_crosses_alone():
    def heights(sprawling: float, shapes: set[str]) -> list[float]:
        style = Style(no_letter=0.0, turned_letter=0.0, slant=0.0, sprawling=sprawling)
        looks = [sample_look(np.random.default_rng(seed), SUAS, style) for seed in range(200)]
        return [np.ptp(np.concatenate(look.letter)[:, 1]) for look in looks if look.attributes["shape"] in shapes]

    assert np.median(heights(1.0, {"star", "cross"})) > 1.3 * np.median(heights(0.0, {"star", "cross"}))
    assert heights(1.0, {"circle", "square"}) == heights(0.0, {"circle", "square"})


def test_letters_come_small_and_wide():
    def letters(**style: object) -> list[np.ndarray]:
        plain = Style(no_letter=0.0, turned_letter=0.0, slant=0.0, sprawling=0.0, **style)
        looks = [sample_look(np.random.default_rng(seed), SUAS, plain) for seed in range(40)]
        return [np.ptp(np.concatenate(look.letter), axis=0) for look in looks]

    assert max(height for _, height in letters(letter_height=dict.fromkeys(SHAPES, (0.3, 0.35)))) < 0.75
    plain, wide = (
        np.median([width / height for width, height in letters(letter_width=width)]) for width in ((1, 1), (1.3, 1.3))
    )
    assert wide == pytest.approx(1.3 * plain, rel=0.03)
