"""Letters as polygons: fonts that come as packages, and strokes of tape or paint.

A glyph is a list of closed contours, float32 [K, 2], y down, centred, its height from -1 to 1; filled by the
even-odd rule. Drawing a letter is then one exact warp of its points: nothing is interpolated.
"""

from __future__ import annotations

import io
from functools import lru_cache
from importlib.resources import files
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from aerial_runtime.contract import F32, U8

Glyph = tuple[F32, ...]

RASTER_PX = 240  # height at which outlines are traced; twice the largest letter that is ever drawn

# (package, folder in it, files): sans, serif, rounded, narrow, hand-lettered; upright weights that a team would print
# or paint.
FONTS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("font_roboto", "files/", ("Roboto-Regular.ttf", "Roboto-Medium.ttf", "Roboto-Bold.ttf", "Roboto-Black.ttf")),
    ("font_lato", "files/", ("Lato-Regular.ttf", "Lato-Bold.ttf", "Lato-Black.ttf")),
    ("font_source_sans_pro", "files/", ("SourceSansPro-Regular.ttf", "SourceSansPro-Bold.ttf",
                                        "SourceSansPro-Black.ttf")),
    ("font_source_serif_pro", "files/", ("SourceSerifPro-Semibold.ttf", "SourceSerifPro-Bold.ttf")),
    ("font_hanken_grotesk", "files/", ("HankenGrotesk-Medium.otf", "HankenGrotesk-Bold.otf")),
    ("font_manrope", "files/", ("Manrope-Medium.ttf", "Manrope-ExtraBold.ttf")),
    ("font_caladea", "files/", ("Caladea-Bold.ttf",)),
    ("font_fredoka_one", "files/", ("FredokaOne-Regular.ttf",)),
    ("font_amatic_sc", "files/", ("AmaticSC-Bold.ttf",)),
    ("font_intuitive", "files/", ("Intuitive.ttf",)),
    ("matplotlib", "mpl-data/fonts/ttf/", ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSansMono-Bold.ttf",
                                           "DejaVuSerif-Bold.ttf", "STIXGeneralBol.ttf")),
    # What a word processor prints unless told otherwise: thin joints and feet, which blur takes first.
    ("font_source_serif_pro", "files/", ("SourceSerifPro-Regular.ttf",)),
    ("font_caladea", "files/", ("Caladea-Regular.ttf",)),
    ("matplotlib", "mpl-data/fonts/ttf/", ("DejaVuSerif.ttf", "STIXGeneral.ttf")),
)  # fmt: skip
FONT_FILES: tuple[tuple[str, str], ...] = tuple(
    (package, folder + name) for package, folder, names in FONTS for name in names
)
# The published generator writes in 14 sans-serif files: six weights of Lato, two of Roboto, two of Open Sans, three of
# Raleway, one of Input Sans. Three of Lato (each twice) and both of Roboto are here; the others' nearest kin stand in.
_REFERENCE_NAMES = (
    "Lato-Regular.ttf", "Lato-Regular.ttf", "Lato-Bold.ttf", "Lato-Bold.ttf", "Lato-Black.ttf", "Lato-Black.ttf",
    "Roboto-Regular.ttf", "Roboto-Medium.ttf", "SourceSansPro-Regular.ttf", "SourceSansPro-Bold.ttf",
    "HankenGrotesk-Medium.otf", "HankenGrotesk-Bold.otf", "Manrope-Medium.ttf", "DejaVuSans.ttf",
)  # fmt: skip
ALL_FONTS: tuple[int, ...] = tuple(range(len(FONT_FILES)))
REFERENCE_FONTS: tuple[int, ...] = tuple(
    next(index for index, (_, path) in enumerate(FONT_FILES) if path.endswith(f"/{name}")) for name in _REFERENCE_NAMES
)

# Letters as one would lay them in tape: polylines on a grid 4 wide and 6 high, "x,y" pairs, y down; ` / ` stands
# between the ways in which people lay a letter: corners square or cut, legs upright or slanting, feet and hooks.
STROKES: dict[str, str] = {
    "A": "0,6 2,0 4,6|0.8,3.8 3.2,3.8 / 0,6 0,0 4,0 4,6|0,3 4,3 / 0,6 1.2,0 2.8,0 4,6|0.6,3.4 3.4,3.4",
    "B": "0,0 0,6 3.6,6 4,5.4 4,3.6 3.6,3 0,3|0,0 3.2,0 3.7,0.5 3.7,2.5 3.2,3 / 0,0 0,6 4,6 4,3 0,3|0,0 3,0 3,3"
         " / 0,0 0,6 3.2,6 4,4.5 3.2,3 0,3|0,0 2.9,0 3.6,1.5 2.9,3",
    "C": "4,0 0,0 0,6 4,6 / 4,0.9 3.2,0 0.8,0 0,0.9 0,5.1 0.8,6 3.2,6 4,5.1",
    "D": "0,0 0,6 2.8,6 4,4.6 4,1.4 2.8,0 0,0 / 0,0 0,6 2,6 4,3 2,0 0,0",
    "E": "4,0 0,0 0,6 4,6|0,3 3.2,3 / 4,0 0,0 0,6 4,6|0,3 4,3",
    "F": "4,0 0,0 0,6|0,3 3.2,3 / 4,0 0,0 0,6|0,2.6 4,2.6",
    "G": "4,1 4,0 0,0 0,6 4,6 4,3.2 2.2,3.2 / 4,0.9 3.2,0 0.8,0 0,0.9 0,5.1 0.8,6 3.2,6 4,5.1 4,3.3 2,3.3"
         " / 4,0 0,0 0,6 4,6 4,3",
    "H": "0,0 0,6|4,0 4,6|0,3 4,3", "I": "2,0 2,6 / 0.5,0 3.5,0|2,0 2,6|0.5,6 3.5,6",
    "J": "4,0 4,6 0,6 0,4.4 / 1,0 4,0|2.6,0 2.6,6 0,6 0,4.6 / 4,0 4,5.1 3.2,6 0.8,6 0,5.1 0,4.4",
    "K": "0,0 0,6|4,0 0,3.2|1.2,2.4 4,6 / 0,0 0,6|4,0 0,3 4,6", "L": "0,0 0,6 4,6",
    "M": "0,6 0,0 2,3.4 4,0 4,6 / 0,6 0.7,0 2,5 3.3,0 4,6 / 0,6 0,0 4,0 4,6|2,0 2,4 / 0,6 0,0 2.5,2.2 5,0 5,6",
    "N": "0,6 0,0 4,6 4,0",
    "O": "0.7,0 3.3,0 4,0.8 4,5.2 3.3,6 0.7,6 0,5.2 0,0.8 0.7,0"
         " / 1.4,0 2.6,0 4,1.6 4,4.4 2.6,6 1.4,6 0,4.4 0,1.6 1.4,0",
    "P": "0,6 0,0 4,0 4,3.2 0,3.2 / 0,6 0,0 3.1,0 4,0.9 4,2.4 3.1,3.3 0,3.3",
    "Q": "0,0 4,0 4,6 0,6 0,0|2.4,4.2 4.6,6.6 / 0.8,0 3.2,0 4,0.9 4,5.1 3.2,6 0.8,6 0,5.1 0,0.9 0.8,0|2.2,4 4.4,6.6",
    "R": "0,6 0,0 4,0 4,3 0,3|1.6,3 4,6 / 0,6 0,0 3.1,0 4,0.9 4,2.2 3.1,3.1 0,3.1|2,3.1 4,6"
         " / 0,6 0,0 3.2,0 3.2,2.9 0,2.9|2.6,2.9 4,3.7 4,6",
    "S": "4,0 0,0 0,3 4,3 4,6 0,6 / 4,0.9 3.2,0 0.8,0 0,0.9 0,2.2 0.8,3 3.2,3 4,3.8 4,5.1 3.2,6 0.8,6 0,5.1",
    "T": "0,0 4,0|2,0 2,6", "U": "0,0 0,6 4,6 4,0 / 0,0 0,5 0.9,6 3.1,6 4,5 4,0", "V": "0,0 2,6 4,0",
    "W": "0,0 1,6 2.5,2 4,6 5,0 / 0,0 0,6 2,2.6 4,6 4,0 / 0,0 0,6 4,6 4,0|2,6 2,2 / 0,0 0,6 2.5,3.8 5,6 5,0",
    "X": "0,0 4,6|4,0 0,6", "Y": "0,0 2,3|4,0 2,3 2,6 / 0,0 2,2|4,0 2,2 2,6", "Z": "0,0 4,0 0,6 4,6",
    "0": "0,0 4,0 4,6 0,6 0,0 / 1,0 3,0 4,1.2 4,4.8 3,6 1,6 0,4.8 0,1.2 1,0",
    "1": "0.8,1.2 2,0 2,6 / 0.6,1.5 2,0 2,6|0.5,6 3.5,6",
    "2": "0,0 4,0 4,3 0,3 0,6 4,6 / 0,1.3 0.9,0 3.1,0 4,1.2 4,2.2 0,6 4,6",
    "3": "0,0 4,0 4,6 0,6|0.8,3 4,3 / 0,0.9 0.9,0 3.1,0 4,0.9 4,2.1 3.1,3 1.5,3|3.1,3 4,3.9 4,5.1 3.1,6 0.9,6 0,5.1"
         " / 0,0 4,0 2,2.4 4,3.6 4,5.1 3.1,6 0.9,6 0,5.1",
    "4": "3,6 3,0 0,4 4,4 / 0,0 0,3.4 4,3.4|4,0 4,6",
    "5": "4,0 0,0 0,2.8 4,2.8 4,6 0,6 / 4,0 0,0 0,2.6 3.1,2.6 4,3.5 4,5.1 3.1,6 0.9,6 0,5.1",
    "6": "4,0 0,0 0,6 4,6 4,3 0,3 / 3.8,0.8 3.1,0 0.9,0 0,0.9 0,5.1 0.9,6 3.1,6 4,5.1 4,3.7 3.1,2.8 0,2.8",
    "7": "0,0 4,0 1.6,6 / 0,0 4,0 4,1.2 2.2,6",
    "8": "0,0 4,0 4,6 0,6 0,0|0,3 4,3 / 0.9,0 3.1,0 3.8,0.8 3.8,2.2 0.2,3.8 0,4.2 0,5.2 0.9,6 3.1,6 4,5.2 4,4.2 0.2,2.2"
         " 0.2,0.8 0.9,0",
    "9": "4,3 0,3 0,0 4,0 4,6 0,6 / 4,3.2 0.9,3.2 0,2.3 0,0.9 0.9,0 3.1,0 4,0.9 4,5.1 3.1,6 0.9,6 0.2,5.2"
         " / 4,6 4,0 0,0 0,3 4,3",
}  # fmt: skip
STROKE_WIDTHS = (0.06, 0.09, 0.12, 0.15, 0.18, 0.22)  # of a letter's height
STROKE_VARIANTS = 72  # per letter: way, thickness, width, ends and the hand's tremble


def glyph_variants() -> int:
    """Return how many looks every letter has."""
    return len(FONT_FILES) + STROKE_VARIANTS


@lru_cache(maxsize=8192)
def glyph(letter: str, variant: int) -> Glyph:
    """Return the letter's contours in the given look (0 <= variant < glyph_variants())."""
    if variant < len(FONT_FILES):
        return _trace(_font_raster(letter, variant))
    return _trace(_stroke_raster(letter, variant - len(FONT_FILES)))


def _font_raster(letter: str, variant: int) -> U8:
    font = _font(variant)
    left, top, right, bottom = (round(edge) for edge in font.getbbox(letter))
    picture = Image.new("L", (right - left + 8, bottom - top + 8))
    ImageDraw.Draw(picture).text((4 - left, 4 - top), letter, fill=255, font=font)
    return np.asarray(picture)


@lru_cache(maxsize=len(FONT_FILES))
def _font(variant: int) -> Any:
    package, name = FONT_FILES[variant]
    data = files(package).joinpath(name).read_bytes()
    return ImageFont.truetype(io.BytesIO(data), RASTER_PX)


def _stroke_raster(letter: str, variant: int) -> U8:
    """Draw the strokes: even variants are tape (square ends), odd ones paint (round ends and a tremble)."""
    rng = np.random.default_rng((variant, ord(letter)))
    thickness = round(RASTER_PX * STROKE_WIDTHS[variant % len(STROKE_WIDTHS)])
    aspect = rng.uniform(0.75, 1.5)
    raster = np.zeros((2 * RASTER_PX, 2 * RASTER_PX), np.uint8)
    ways = STROKES[letter].split(" / ")
    for polyline in ways[variant // len(STROKE_WIDTHS) % len(ways)].split("|"):
        points = np.array([[float(v) for v in pair.split(",")] for pair in polyline.split()])
        points += rng.normal(0, 0.05 if variant % 2 == 0 else 0.14, points.shape)
        points = points * (RASTER_PX / 6 * aspect, RASTER_PX / 6) + RASTER_PX / 3
        if variant % 2:
            cv2.polylines(raster, [np.rint(points).astype(np.int32)], False, 255, thickness, cv2.LINE_AA)
        else:
            for start, stop in pairwise(points):
                _tape(raster, start, stop, thickness)
    return raster


def _tape(raster: U8, start: Any, stop: Any, thickness: int) -> None:
    """Lay one strip: a rectangle that overlaps its corners by half its width."""
    along = (stop - start) / max(1e-6, float(np.hypot(*(stop - start)))) * thickness / 2
    across = np.array((-along[1], along[0]))
    corners = (start - along - across, stop + along - across, stop + along + across, start - along + across)
    cv2.fillConvexPoly(raster, np.rint(corners).astype(np.int32), 255)


def _trace(raster: U8) -> Glyph:
    """Contours of a raster, holes included, scaled to height -1..1 about its centre."""
    binary = (raster > 127).astype(np.uint8)
    contours, _ = cv2.findContours(binary, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    x, y, width, height = cv2.boundingRect(binary)
    centre = np.array((x + (width - 1) / 2, y + (height - 1) / 2), np.float32)
    return tuple(
        (cv2.approxPolyDP(c, 0.6, True).reshape(-1, 2).astype(np.float32) - centre) / np.float32(height / 2)
        for c in contours
        if len(c) >= 3
    )
