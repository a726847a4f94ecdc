"""What a colour name looks like: ranges of hue, saturation and lightness, sampled uniformly.

The reference table is that of the published generator (hue in degrees, saturation and lightness in percent).
The wide table is what paint, tape and cloth look like on real flights: navy and cyan are blue, maroon and
salmon are red. Pink has no name in the label space: it is drawn, and its label left unknown.
"""

from __future__ import annotations

import colorsys

import numpy as np

from aerial_runtime.contract import F32

HslRange = tuple[float, float, float, float, float, float]  # hue min, max (degrees), saturation, lightness (%)

REFERENCE: dict[str, tuple[HslRange, ...]] = {
    "red": ((0, 4, 50, 100, 40, 60),),
    "orange": ((9, 33, 50, 100, 40, 60),),
    "yellow": ((43, 55, 50, 100, 40, 60),),
    "green": ((75, 120, 50, 100, 40, 60),),
    "blue": ((200, 233, 50, 100, 40, 60),),
    "purple": ((266, 291, 50, 100, 40, 60),),
    "brown": ((13, 20, 25, 50, 22, 40),),
    "black": ((0, 360, 0, 12, 0, 6),),
    "gray": ((0, 360, 0, 12, 25, 60),),
    "white": ((0, 360, 0, 12, 80, 100),),
}

WIDE: dict[str, tuple[HslRange, ...]] = {
    "red": ((-8, 6, 55, 100, 35, 60), (-12, 5, 50, 95, 22, 36), (-10, 10, 60, 100, 58, 74)),
    "orange": ((14, 36, 70, 100, 42, 62), (12, 30, 60, 100, 55, 70)),
    "yellow": ((44, 62, 60, 100, 42, 66), (46, 64, 50, 100, 62, 88)),
    "green": ((78, 150, 35, 100, 28, 60), (95, 168, 30, 95, 16, 32), (75, 160, 35, 90, 50, 76),
              (150, 174, 25, 80, 24, 54)),
    "blue": ((200, 242, 45, 100, 35, 62), (212, 242, 35, 100, 14, 34), (182, 215, 50, 100, 42, 74)),
    "purple": ((252, 296, 30, 100, 28, 60), (250, 300, 25, 90, 16, 34), (256, 292, 35, 90, 58, 74),
               (250, 300, 13, 30, 26, 50)),
    "brown": ((12, 32, 25, 60, 18, 36), (16, 36, 20, 45, 30, 46), (-6, 14, 16, 42, 22, 42)),
    "black": ((0, 360, 0, 15, 1, 14), (200, 260, 8, 25, 8, 20)),
    "gray": ((0, 360, 0, 10, 28, 66),),
    "white": ((0, 360, 0, 15, 84, 100), (40, 60, 10, 40, 88, 97)),
}  # fmt: skip

PINK: tuple[HslRange, ...] = ((302, 342, 45, 100, 45, 82),)


def sample_bgr(rng: np.random.Generator, ranges: tuple[HslRange, ...]) -> F32:
    """Return one colour of the given ranges: float32 [3], BGR, 0..255."""
    low_high = ranges[int(rng.integers(len(ranges)))] if len(ranges) > 1 else ranges[0]
    u = rng.random(3)
    hue, saturation, lightness = (low_high[2 * i] + u[i] * (low_high[2 * i + 1] - low_high[2 * i]) for i in range(3))
    red, green, blue = colorsys.hls_to_rgb((hue % 360) / 360, lightness / 100, saturation / 100)
    return np.array((blue * 255, green * 255, red * 255), np.float32)
