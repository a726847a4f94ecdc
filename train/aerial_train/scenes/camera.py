"""What light, lens, sensor and JPEG do to a scene, after everything is painted.

Order as in nature: light and white balance, lens (vignette, fringes, defocus, motion), sensor noise, compression.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from aerial_runtime.contract import F32, U8
from aerial_train.scenes import textures

Rng = np.random.Generator

LEVELS = np.linspace(0, 1, 256, dtype=np.float32)[:, None]  # every grey level, for tone tables


@dataclass(frozen=True)
class Camera:
    """Ranges of one family of cameras. Probabilities 0..1; blur in pixels; noise in grey levels."""

    exposure: float = 0.26  # standard deviation of the log of the gain
    metered: tuple[float, float] = (0.2, 0.62)  # mean level 0..1 that every camera's automatic exposure keeps to
    cast: float = 0.14  # standard deviation of the log of each channel's gain
    gamma: float = 0.12  # standard deviation of the log of the exponent
    clip: float = 0.3  # probability that what is too bright is cut off, where most cameras' tone curves flatten
    haze: float = 0.35  # probability of a veil that lifts the blacks
    saturation: tuple[float, float] = (0.45, 1.4)
    shade: float = 0.12  # probability of a shadow edge across the picture
    vignette: float = 0.25
    defocus: float = 0.45
    defocus_px: float = 1.6
    fringe: float = 0.12  # probability that red and blue lie beside green, as behind a cheap lens
    motion: float = 0.22
    motion_px: float = 3.5
    sharpen: float = 0.25  # cameras sharpen: halos around edges
    noise: float = 9.0  # largest standard deviation
    jpeg: float = 0.6
    jpeg_quality: tuple[int, int] = (35, 95)


# The published generator has no camera.
NO_CAMERA = Camera(
    exposure=0,
    metered=(0, 1),
    cast=0,
    gamma=0,
    clip=0,
    haze=0,
    saturation=(1, 1),
    shade=0,
    vignette=0,
    defocus=0,
    fringe=0,
    motion=0,
    sharpen=0,
    noise=0,
    jpeg=0,
)


def expose(rng: Rng, picture: U8, camera: Camera, metered_bgr: F32 | None = None) -> U8:
    """Return the picture as the camera would give it: uint8 [H, W, 3]; the input may be changed.

    metered_bgr: mean colour of what the exposure is metered on, where that is not the picture: a crop is exposed for
    the ground around its board, as whole frames are.
    """
    if camera == NO_CAMERA:  # not `is`: a worker that was started afresh has a copy
        return picture
    if camera.shade and rng.random() < camera.shade:
        _shade_edge(rng, picture)
    mean = metered_bgr if metered_bgr is not None else mean_bgr(picture)
    picture = _tone(rng, picture, camera, float(mean.mean()) / 255)
    if camera.vignette and rng.random() < camera.vignette:
        _vignette(rng, picture)
    if camera.fringe and rng.random() < camera.fringe:
        picture = _fringe(rng, picture)
    if rng.random() < camera.defocus:
        picture = np.asarray(
            cv2.GaussianBlur(picture, (0, 0), 0.25 + (camera.defocus_px - 0.25) * rng.random() ** 1.5), np.uint8
        )
    if rng.random() < camera.motion:
        picture = np.asarray(cv2.filter2D(picture, -1, _motion_kernel(rng, camera.motion_px)), np.uint8)
    if rng.random() < camera.sharpen:
        soft = cv2.GaussianBlur(picture, (0, 0), 1.0)
        amount = rng.uniform(0.3, 1.2)
        picture = np.asarray(cv2.addWeighted(picture, 1 + amount, soft, -amount, 0), np.uint8)
    if camera.noise:
        sigma = camera.noise * rng.random() ** 2
        grain = textures.patch(rng, textures.grain_pool(), *picture.shape[:2])
        noisy = cv2.scaleAdd(grain, sigma, picture.astype(np.float32))
        picture = np.asarray(cv2.convertScaleAbs(np.maximum(noisy, 0)), np.uint8)
    if rng.random() < camera.jpeg:
        quality = int(rng.integers(*camera.jpeg_quality))
        _, data = cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, quality))
        picture = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return picture


def mean_bgr(picture: U8) -> F32:
    """Return the mean colour [3] of a picture [H, W, 3]."""
    return np.asarray(cv2.mean(picture)[:3], np.float32)


def _tone(rng: Rng, picture: U8, camera: Camera, level: float) -> U8:
    """Gain, white balance, haze and gamma as one table a channel; then saturation as one matrix.

    level: 0..1, mean of what the exposure is metered on.
    """
    u = rng.standard_normal(5)
    darkest, brightest = (bound / max(level, 1 / 255) for bound in camera.metered)
    gain = min(max(math.exp(camera.exposure * u[0]), darkest), brightest)
    gains = np.asarray(gain * np.exp(camera.cast * u[1:4]), np.float32)
    gamma = math.exp(camera.gamma * u[4])
    veil = rng.uniform(0, 0.3) if rng.random() < camera.haze else 0.0
    levels = LEVELS * gains
    # With a soft shoulder bright boards keep their colour and their letters, as by most tone curves.
    shoulder = np.where(levels > 0.8, 0.8 + 0.2 * np.tanh((levels - 0.8) / 0.2), levels)
    levels = (np.minimum(levels, 1) if camera.clip and rng.random() < camera.clip else shoulder) ** gamma
    levels = (veil * 0.75 + (1 - veil) * levels) * 255
    picture = np.asarray(cv2.LUT(picture, levels.astype(np.uint8).reshape(1, 256, 3)), np.uint8)
    keep = rng.uniform(*camera.saturation)
    gray = (1 - keep) * np.array((0.114, 0.587, 0.299))
    return np.asarray(cv2.transform(picture, np.tile(gray, (3, 1)) + keep * np.eye(3)), np.uint8)


def _shade_edge(rng: Rng, picture: U8) -> None:
    """Half of the picture lies in the shadow of a tree, a house, the aircraft."""
    height, width = picture.shape[:2]
    angle = rng.uniform(0, 2 * math.pi)
    normal = np.array((math.cos(angle), math.sin(angle)))
    through = rng.uniform(0.2, 0.8, 2) * (width, height)
    far = 2 * (width + height)
    along = np.array((-normal[1], normal[0])) * far
    corners = np.rint(np.array((through + along, through - along, through - along + normal * far,
                                through + along + normal * far))).astype(np.int32)  # fmt: skip
    mask = np.zeros((height, width), np.uint8)
    cv2.fillConvexPoly(mask, corners, 255)
    mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.6, 3)), np.uint8)
    dark = mask[..., None] * np.float32(rng.uniform(0.25, 0.6) / 255)
    picture[:] = picture * (1 - dark)


def _vignette(rng: Rng, picture: U8) -> None:
    """Fall-off of light towards the corners, quadratic in the distance from the centre."""
    height, width = picture.shape[:2]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    picture[:] = picture * (1 - np.float32(rng.uniform(0.05, 0.28)) * (x * x + y * y))[..., None]


def _fringe(rng: Rng, picture: U8) -> U8:
    """Move red and blue apart by up to a pixel and a half: lateral chromatic aberration is a shift within a crop."""
    dx, dy = rng.uniform(-0.75, 0.75, 2)
    height, width = picture.shape[:2]
    blue, green, red = cv2.split(picture)
    for sign, plane in ((1, blue), (-1, red)):
        shift = np.array(((1, 0, sign * dx), (0, 1, sign * dy)), np.float32)
        cv2.warpAffine(plane.copy(), shift, (width, height), plane, cv2.INTER_LINEAR, cv2.BORDER_REPLICATE)
    return np.asarray(cv2.merge((blue, green, red)), np.uint8)


def _motion_kernel(rng: Rng, longest_px: float) -> F32:
    """A straight streak through the middle of an odd square kernel, summing to 1."""
    length, angle = rng.uniform(1.0, longest_px), rng.uniform(0, math.pi)
    size = 2 * math.ceil(longest_px / 2) + 3
    kernel = np.zeros((size, size), np.uint8)
    half = np.array((math.cos(angle), math.sin(angle))) * length / 2
    middle = size // 2
    a, b = np.rint((middle - half) * 16).astype(int), np.rint((middle + half) * 16).astype(int)
    cv2.line(kernel, (int(a[0]), int(a[1])), (int(b[0]), int(b[1])), 255, 1, cv2.LINE_AA, 4)
    return np.asarray(kernel / np.float32(kernel.sum()), np.float32)
