"""One target: what it is, how it is made, and where it lies.

A target's outline and letter are polygons; placing it is one homography of their points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import cv2
import numpy as np

from aerial_runtime.card import LabelSpace
from aerial_runtime.contract import F32
from aerial_runtime.errors import InputError
from aerial_train.scenes import colors
from aerial_train.scenes.glyphs import ALL_FONTS, FONT_FILES, REFERENCE_FONTS, STROKES, glyph, glyph_variants
from aerial_train.scenes.shapes import SHAPES, stretch

Rng = np.random.Generator
TRIES = 8  # at something that can be seen; the last one stays, for it may be that nothing can
UNKNOWN, NONE = -1, -2  # labels: no loss and no score; nothing there to read (the model shall abstain)


@dataclass(frozen=True)
class Style:
    """How targets are made. Probabilities 0..1; lengths in units of half the target's size."""

    colors: dict[str, tuple[colors.HslRange, ...]] = field(default_factory=lambda: colors.WIDE)
    perspective: float = 0.16  # how far a corner may move inwards, of the half side
    stretch: float = 0.12  # standard deviation of the log of width over height, where the shape keeps its name
    fonts: tuple[int, ...] = ALL_FONTS  # looks that are drawn as often as they stand here
    strokes: float = 0.35  # share of letters in tape or paint strokes, the rest are fonts
    letter_height: dict[str, tuple[float, float]] = field(  # by shape, of the diameter of its letter's circle
        default_factory=lambda: dict.fromkeys(SHAPES, (0.32, 1.15))
    )
    letter_width: tuple[float, float] = (0.72, 1.35)  # of the letter's own width
    sprawling: float = 0.25  # share of letters on stars and crosses that reach into the arms, cut off by their edges
    slant: float = 0.25  # share of letters that lean, by up to a quarter of their height
    by_hand: float = 0.3  # share of letters cut or painted by hand: bent by slow waves
    fit_letter: bool = True  # shrink wide letters until they lie on the board, but for a little
    thin_ink: float = 0.35  # share of letters through which the board shows
    no_letter: float = 0.03
    turned_letter: float = 0.06  # letter turned against its shape
    pink: float = 0.04
    border: float = 0.08
    worn: float = 0.35
    texture: float = 0.6
    gloss: float = 0.4
    folds: float = 0.22  # share of boards that are bent or crumpled
    shadow: float = 0.35  # cast beside the board
    grass: float = 0.08  # blades over the board
    min_contrast: float = 45.0  # between letter and shape, sum of the channels' differences; below it nobody can read
    min_ground_contrast: float = 40.0  # the same between shape and ground; below it nobody can see


# What the published generator gives each shape's letters (0.4 to 0.99 of half the target, a corner's distance or half a
# bar), here as a share of our circles: that of a square touches its sides, that of a cross has 1.35 times half its bar.
REFERENCE_LETTER_HEIGHT = {
    "circle": (0.5, 0.75), "semicircle": (0.7, 0.9), "quartercircle": (0.75, 0.9), "triangle": (0.8, 1.0),
    "square": (0.7, 0.9), "rectangle": (0.85, 0.96), "trapezoid": (0.85, 0.95), "pentagon": (0.62, 0.93),
    "hexagon": (0.58, 0.92), "heptagon": (0.55, 0.94), "octagon": (0.54, 0.92), "star": (0.8, 0.95),
    "cross": (0.68, 0.73),
}  # fmt: skip

# The published generator: flat colours, fonts alone, nothing on or beside the board.
REFERENCE_STYLE = Style(
    colors=colors.REFERENCE, perspective=0.5, stretch=0.0, fonts=REFERENCE_FONTS, strokes=0.0,
    letter_height=REFERENCE_LETTER_HEIGHT, letter_width=(1.0, 1.0), sprawling=0.0, slant=0.0, by_hand=0.0,
    fit_letter=False, thin_ink=0.0, no_letter=0.0, turned_letter=0.0, pink=0.0, border=0.0, worn=0.0, texture=0.0,
    gloss=0.0, folds=0.0, shadow=0.0, grass=0.0, min_contrast=0.0, min_ground_contrast=0.0,
)  # fmt: skip


@dataclass(frozen=True)
class Look:
    """A target before it is placed: unit circle, upright, y down. labels: head name -> class index or UNKNOWN, NONE."""

    attributes: dict[str, str | None]
    labels: dict[str, int]
    outline: F32  # [K, 2]
    letter: tuple[F32, ...]  # contours [K, 2], even-odd
    letter_up: F32 | None  # [2, 2]: middle of the letter's foot and of its top
    shape_bgr: F32
    letter_bgr: F32
    border_bgr: F32 | None
    style: Style


def check_drawable(space: LabelSpace) -> None:
    """Raise InputError where the label space asks for something that the generator cannot draw."""
    vocabulary = {"shape": set(SHAPES), "letter": set(STROKES),
                  "shape_color": set(colors.WIDE), "letter_color": set(colors.WIDE)}  # fmt: skip
    for head in space.heads:
        for name in head.classes:
            for attribute, value in head.draw.get(name, {head.name: name}).items():
                if attribute not in vocabulary:
                    raise InputError(
                        f"label space {space.name!r}: scenes cannot draw {attribute!r} (class {name!r} of head "
                        f"{head.name!r}); give the class a draw entry with any of {sorted(vocabulary)}"
                    )
                if value not in vocabulary[attribute]:
                    raise InputError(
                        f"label space {space.name!r}: {value!r} is no {attribute} that scenes can draw; "
                        f"choose among {', '.join(sorted(vocabulary[attribute]))}"
                    )


def sample_look(rng: Rng, space: LabelSpace, style: Style) -> Look:
    """Draw what a target is, uniformly over the classes of every head, and how it is made."""
    attributes, labels, free = _sample_attributes(rng, space, style)
    shape_bgr = colors.sample_bgr(rng, style.colors[attributes["shape_color"] or "white"])
    letter_bgr = colors.sample_bgr(rng, style.colors[attributes["letter_color"] or "white"])
    for _ in range(TRIES):
        if float(np.abs(shape_bgr - letter_bgr).sum()) >= style.min_contrast:
            break
        letter_bgr = colors.sample_bgr(rng, style.colors[attributes["letter_color"] or "white"])
    if style.pink and rng.random() < style.pink:
        shape_bgr, letter_bgr = _make_pink(rng, attributes, labels, free, shape_bgr, letter_bgr)
    shape = attributes["shape"] or "circle"
    outline, circle = SHAPES[shape](rng)
    if style.stretch:
        outline, circle = stretch(rng, shape, outline, circle, style.stretch)
    if style.thin_ink and rng.random() < style.thin_ink:
        letter_bgr = _see_through(rng, letter_bgr, shape_bgr, style.min_contrast)
    letter, letter_up = _sample_letter(rng, attributes["letter"], shape, circle, style)
    border = None
    if style.border and rng.random() < style.border:
        border = letter_bgr if rng.random() < 0.5 else rng.uniform(0, 255, 3).astype(np.float32)
    return Look(attributes, labels, outline, letter, letter_up, shape_bgr, letter_bgr, border, style)


def stands_out(look: Look, ground_bgr: F32) -> bool:
    """Tell whether a target's shape can be told from the ground, mean colour [3], that it lies on."""
    return float(np.abs(look.shape_bgr - ground_bgr).sum()) >= look.style.min_ground_contrast


def _sample_attributes(
    rng: Rng, space: LabelSpace, style: Style
) -> tuple[dict[str, str | None], dict[str, int], set[str]]:
    """Draw a class for every head, then what the heads leave open.

    Returns attributes, labels, and the attributes that may still be changed: those no draw entry asked for.
    """
    attributes: dict[str, str | None] = {}
    labels: dict[str, int] = {}
    fixed: set[str] = set()
    for head in space.heads:
        labels[head.name] = index = int(rng.integers(len(head.classes)))
        name = head.classes[index]
        attributes.update(head.draw.get(name, {head.name: name}))
        fixed.update(head.draw.get(name, {}))
    vocabulary = (("shape", SHAPES), ("letter", STROKES), ("shape_color", style.colors), ("letter_color", style.colors))
    for attribute, values in vocabulary:
        if attribute not in attributes:
            attributes[attribute] = list(values)[int(rng.integers(len(values)))]
    free = set(attributes) - fixed
    if attributes["letter_color"] == attributes["shape_color"] and "letter_color" in free:
        _recolor_letter(rng, space, style, attributes, labels)
    if style.no_letter and {"letter", "letter_color"} <= free and rng.random() < style.no_letter:
        attributes["letter"] = attributes["letter_color"] = None
        labels.update({name: NONE for name in ("letter", "letter_color") if name in labels})
    return attributes, labels, free


def _recolor_letter(
    rng: Rng, space: LabelSpace, style: Style, attributes: dict[str, str | None], labels: dict[str, int]
) -> None:
    """Give the letter a colour that the shape does not have, among the classes that are drawn by name."""
    names = list(style.colors)
    if "letter_color" in labels:
        head = space.head("letter_color")
        names = [name for name in head.classes if name not in head.draw]
    others = [name for name in names if name != attributes["shape_color"]]
    if others:
        attributes["letter_color"] = color = others[int(rng.integers(len(others)))]
        if "letter_color" in labels:
            labels["letter_color"] = space.head("letter_color").classes.index(color)


def _make_pink(
    rng: Rng,
    attributes: dict[str, str | None],
    labels: dict[str, int],
    free: set[str],
    shape_bgr: F32,
    letter_bgr: F32,
) -> tuple[F32, F32]:
    """Paint shape or letter in a colour that has no name: its label becomes UNKNOWN."""
    pink, which = colors.sample_bgr(rng, colors.PINK), "shape_color" if rng.random() < 0.6 else "letter_color"
    if which not in free:
        return shape_bgr, letter_bgr
    attributes[which] = None
    if labels.get(which, NONE) != NONE:
        labels[which] = UNKNOWN
    return (pink, letter_bgr) if which == "shape_color" else (shape_bgr, pink)


def _sample_letter(
    rng: Rng, letter: str | None, shape: str, circle: tuple[float, float, float], style: Style
) -> tuple[tuple[F32, ...], F32 | None]:
    """Place a letter in its shape's circle; return its contours and the line from its foot to its top."""
    if letter is None:
        return (), None
    stroked = rng.random() < style.strokes
    fonts = style.fonts
    variant = int(rng.integers(len(FONT_FILES), glyph_variants())) if stroked else fonts[int(rng.integers(len(fonts)))]
    contours = glyph(letter, variant)
    if style.by_hand and rng.random() < style.by_hand:
        contours = _bend(rng, contours)
    x, y, radius = circle
    half = radius * rng.uniform(*style.letter_height[shape])
    if style.letter_width != (1.0, 1.0) or style.slant:
        lean = rng.uniform(-0.25, 0.25) if rng.random() < style.slant else 0.0
        form = np.array(((rng.uniform(*style.letter_width), 0), (-lean, 1)), np.float32)
        contours = tuple(c @ form for c in contours)
    if shape in ("star", "cross") and style.sprawling and rng.random() < style.sprawling:
        half = radius * rng.uniform(1.1, 1.5)
    elif style.fit_letter:
        half_width = max(float(np.abs(c[:, 0]).max()) for c in contours)
        half = min(half, 1.12 * radius / math.hypot(1.0, half_width) * 1.1)
        room = 0.1 * radius + 0.25 * max(0.0, radius - half)  # a small letter may lie well off the middle
        offset = rng.uniform(-room, room, 2)
        x, y = x + offset[0], y + offset[1]
    turn = rng.uniform(0, 2 * math.pi) if style.turned_letter and rng.random() < style.turned_letter else 0.0
    cos, sin = math.cos(turn) * half, math.sin(turn) * half
    matrix = np.array(((cos, sin), (-sin, cos)), np.float32)  # row vectors: turns clockwise on the screen
    shift = np.array((x, y), np.float32)
    up = np.array(((0, 1), (0, -1)), np.float32) @ matrix + shift
    return tuple(c @ matrix + shift for c in contours), up


def _bend(rng: Rng, contours: tuple[F32, ...]) -> tuple[F32, ...]:
    """Displace a letter (height -1..1) by two waves, each at least as long as the letter is high: no stroke closes."""
    bent = contours
    for _ in range(2):
        wave = rng.normal(0, 1, 2)
        wave *= rng.uniform(1.0, math.pi) / max(1e-6, math.hypot(*wave))
        phase, push = rng.uniform(0, 2 * math.pi), rng.normal(0, 0.07, 2)
        bent = tuple(
            np.asarray(b + np.sin(c @ wave + phase)[:, None] * push, np.float32)
            for b, c in zip(bent, contours, strict=True)
        )
    return bent


def _see_through(rng: Rng, letter_bgr: F32, shape_bgr: F32, min_contrast: float) -> F32:
    """Return the colour of a letter in thin paint: mixed with its board's, but never until nobody can read it."""
    share = rng.uniform(0.45, 0.95)
    contrast = float(np.abs(shape_bgr - letter_bgr).sum())
    share = max(share, min(1.0, min_contrast / max(1.0, contrast)))
    return np.asarray(shape_bgr + np.float32(share) * (letter_bgr - shape_bgr), np.float32)


def placement(rng: Rng, angle: float, perspective: float, inner: float = 1.0) -> F32:
    """Return the homography [3, 3] of the unit circle: turn clockwise by `angle` (radians), shrink to `inner`, and
    move each corner of the square -1..1 inwards by up to `perspective` (torchvision's convention with
    distortion_scale = perspective)."""
    cos, sin = math.cos(angle) * inner, math.sin(angle) * inner
    turn = np.array(((cos, -sin, 0), (sin, cos, 0), (0, 0, 1)), np.float64)
    if not perspective:
        return turn.astype(np.float32)
    corners = np.array(((-1, -1), (1, -1), (1, 1), (-1, 1)), np.float32)
    moved = corners * (1 - rng.random((4, 2), np.float32) * np.float32(perspective))
    return np.asarray(cv2.getPerspectiveTransform(corners, moved) @ turn, np.float32)


def warp(homography: F32, points: F32) -> F32:
    """Apply a homography [3, 3] to points [K, 2]."""
    projected = points @ homography[:, :2].T + homography[:, 2]
    return np.asarray(projected[:, :2] / projected[:, 2:], np.float32)


def at_pixels(homography: F32, scale: float, x: float, y: float) -> F32:
    """Scale a unit homography to `scale` pixels a unit and move its origin to (x, y)."""
    return np.array(((scale, 0, x), (0, scale, y), (0, 0, 1)), np.float32) @ homography


def letter_up(look: Look, homography: F32) -> F32:
    """Return the unit vector [2] (x right, y down) of letter-up after the warp; zeros where there is no letter."""
    line = _letter_line(look, homography)
    return np.asarray(line / max(1e-6, float(np.hypot(*line))), np.float32)


def letter_height(look: Look, homography: F32) -> float:
    """Return the length of the line from the letter's foot to its top after the warp; 0 where there is no letter."""
    return float(np.hypot(*_letter_line(look, homography)))


def _letter_line(look: Look, homography: F32) -> F32:
    """From the middle of the letter's foot to that of its top, [2]; zeros where there is no letter."""
    if look.letter_up is None:
        return np.zeros(2, np.float32)
    foot, top = warp(homography, look.letter_up)
    return np.asarray(top - foot, np.float32)


def letter_levels(look: Look) -> float:
    """Return how far the letter's colour is from its board's, differences of the three channels added, 0..765."""
    return float(np.abs(look.letter_bgr - look.shape_bgr).sum()) if look.letter else 0.0
