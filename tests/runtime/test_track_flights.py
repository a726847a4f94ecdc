"""Simulated flights over boards on a meadow: turns, gaps, misses, false alarms. Each board is to be one track."""

from __future__ import annotations

import cmath
import math
from collections import defaultdict
from dataclasses import dataclass

import cv2
import numpy as np

from aerial_runtime.card import load_label_space
from aerial_runtime.contract import Box, Frame, Target
from aerial_runtime.pipeline import PipelineResult
from aerial_runtime.track import Tracker

SPACE = load_label_space("suas")
WIDTH, HEIGHT, FRAMES = 960, 540, 60
GROUND_SIDE, GROUND_STEP = 1500, 2.0  # cells of the drawn ground, and pixels at the flight's height that one stands for
MISSED, FALSE, MISREAD = 0.1, 0.15, 0.2  # probability that a board is not seen; a frame; probability of a wrong label


@dataclass
class Board:
    place: complex  # on the ground, x + iy
    size: float
    labels: list[int]


def ground(rng):
    """A meadow: noise of three sizes, uint8 [side, side]."""
    parts = [rng.normal(0, 1, (GROUND_SIDE // n, GROUND_SIDE // n)).astype(np.float32) for n in (2, 5, 20)]
    layers = [cv2.resize(part, (GROUND_SIDE, GROUND_SIDE), interpolation=cv2.INTER_CUBIC) for part in parts]
    return (128 + 12 * sum(layers)).clip(0, 255).astype(np.uint8)


def path(rng):
    """Return the camera's place, heading and scale per frame: legs with turns between, some of them back; and times."""
    place, heading, poses, times, tick = 0j, rng.uniform(0, 2 * math.pi), [], [], 0
    speed, leg, turn = rng.uniform(20, 70), int(rng.integers(12, 25)), float(rng.choice([0, 30, 90, 180]))
    turning = 12
    side = rng.choice([-1, 1])
    for number in range(FRAMES):
        skip = 1 + (int(rng.integers(1, 3)) if rng.random() < 0.1 else 0)  # frames that were dropped
        for _ in range(skip):
            phase = tick % (leg + turning)
            if phase >= leg:
                heading += side * math.radians(turn) / turning
            elif phase == 0 and number:
                side = -side if turn == 180 else rng.choice([-1, 1])
            place += cmath.rect(speed, heading)
            tick += 1
        scale = 1 + 0.08 * math.sin(tick / 9)
        poses.append((place, heading + 0.03 * math.sin(tick / 4), scale))
        times.append(tick)
    return poses, times


def boards(rng, count, poses):
    """Boards near the path, none over another; a third of them stands beside one that looks the same."""
    found: list[Board] = []
    while len(found) < count:
        middle = poses[int(rng.integers(len(poses)))][0]
        place, size = middle + complex(*rng.normal(0, 200, 2)), math.exp(rng.uniform(math.log(17), math.log(60)))
        labels = [int(rng.integers(len(head.classes))) for head in SPACE.heads]
        if found and rng.random() < 0.3:
            twin = found[-1]
            place, size, labels = twin.place + cmath.rect(1.5 * twin.size, rng.uniform(0, 6.28)), twin.size, twin.labels
        if all(abs(place - other.place) > 0.7 * (size + other.size) for other in found):
            found.append(Board(place, size, labels))
    return found


def reading(rng, labels):
    """Return one row of probabilities per head, as a classifier gives them: some wrong, few of them sure."""
    rows = []
    for head, label in zip(SPACE.heads, labels, strict=True):
        logits = rng.normal(0, 1, len(head.classes))
        said = int(rng.integers(len(logits))) if rng.random() < MISREAD else label
        logits[said] += rng.uniform(2, 8)
        rows.append(np.exp(logits) / np.exp(logits).sum())
    return rows


def box_of(rng, middle, size):
    """Return the box of what is in view and whether it is cut; None where too little is."""
    edges = [middle.real - size / 2, middle.imag - size / 2, middle.real + size / 2, middle.imag + size / 2]
    x0, y0, x1, y1 = (round(edge + rng.normal(0, 1.2)) for edge in edges)
    left, top, right, bottom = max(x0, 0), max(y0, 0), min(x1, WIDTH), min(y1, HEIGHT)
    if right - left < 8 or bottom - top < 8:
        return None
    return Box(left, top, right - left, bottom - top)


def fly(seed, textured=True):
    """Yield (frame, result, the board or None that each target is)."""
    rng = np.random.default_rng(seed)
    meadow = ground(rng)
    poses, times = path(rng)
    field = boards(rng, int(rng.integers(0, 31)), poses)
    heading = np.zeros(2, np.float32)
    for number, ((place, angle, scale), tick) in enumerate(zip(poses, times, strict=True)):
        turn = cmath.rect(scale, -angle)
        shift = complex(WIDTH, HEIGHT) / 2 - turn * place
        image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        if textured:
            cell = turn * GROUND_STEP  # the ground's middle is where the flight begins; beyond its edge it is repeated
            origin = shift - cell * complex(GROUND_SIDE, GROUND_SIDE) / 2
            matrix = np.array([[cell.real, -cell.imag, origin.real], [cell.imag, cell.real, origin.imag]])
            seen = cv2.warpAffine(meadow, matrix, (WIDTH, HEIGHT), borderMode=cv2.BORDER_WRAP)
            image = cv2.merge([seen, seen, seen])
        found = []
        for index, board in enumerate(field):
            box = box_of(rng, turn * board.place + shift, board.size * scale)
            if box is not None and rng.random() > MISSED:
                found.append((box, reading(rng, board.labels), index))
        while rng.random() < FALSE:
            box = box_of(rng, complex(rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT)), rng.uniform(15, 50))
            if box is not None:
                found.append((box, reading(rng, [int(rng.integers(len(head.classes))) for head in SPACE.heads]), None))
        targets = [Target(box, round(0.8 * box.area_px), 0.9, {}) for box, _, _ in found]
        rows = {
            head.name: np.array([rows[at] for _, rows, _ in found], np.float32) for at, head in enumerate(SPACE.heads)
        }
        rows["heading"] = np.tile(heading, (len(found), 1))
        time_ns = tick * 100_000_000
        result = PipelineResult(targets, len(targets), 0, 0, 0, 0, probabilities=rows if found else {})
        yield Frame(image, f"f{number}", tick, time_ns, time_ns), result, [index for *_, index in found]


def judge(seeds, **options):
    """Return how many boards were seen, are one track that is theirs alone, and have several tracks."""
    boards_seen = once = doubled = 0
    for seed in seeds:
        tracker = Tracker(SPACE)
        tracks, users = defaultdict(set), defaultdict(set)
        for frame, result, truth in fly(seed, **options):
            targets, _ = tracker(frame, result)
            for target, board in zip(targets, truth, strict=True):
                if board is not None and isinstance(target.track_id, int):
                    tracks[board].add(target.track_id)
                    users[target.track_id].add(board)
        boards_seen += len(tracks)
        once += sum(len(found) == 1 and all(len(users[track]) == 1 for track in found) for found in tracks.values())
        doubled += sum(len(found) > 1 for found in tracks.values())
    return boards_seen, once, doubled


def test_each_board_is_one_track():
    seen, once, doubled = judge(range(20))
    assert seen > 200
    assert once >= 0.98 * seen
    assert doubled <= 0.02 * seen


if __name__ == "__main__":
    import sys
    import time

    cv2.setNumThreads(1)
    for textured in (True, False):
        start = time.perf_counter()
        for seed in map(int, sys.argv[1:]):
            print(seed, judge([seed], textured=textured))
        print("all", textured, judge(range(20), textured=textured), f"{time.perf_counter() - start:.1f} s")
