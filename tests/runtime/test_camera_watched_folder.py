"""A watched folder: complete pictures only, each once, in the order of their coming."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from aerial_runtime.camera import open_source, watched_folder
from aerial_runtime.errors import InputError

JPEG = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8))[1].tobytes()


class Watch:
    """A source read in a thread of its own, as in flight."""

    def __init__(self, folder: Path) -> None:
        self.source = open_source(f"watch:{folder}")
        self.frames = []
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        for frame in self.source:
            if frame is not None:
                self.frames.append(frame)

    def wait(self, count: int) -> list[str]:
        """Return the names of what came, once there are so many or nothing more is to be expected."""
        for _ in range(3000):
            if len(self.frames) + self.source.unreadable >= count:
                break
            time.sleep(0.02)
        return [frame.name for frame in self.frames]

    @property
    def is_reading(self) -> bool:
        return self._thread.is_alive()

    def close(self) -> None:
        self.source.close()
        self._thread.join(2)
        assert not self._thread.is_alive()


@pytest.fixture
def watch(tmp_path, monkeypatch):
    monkeypatch.setattr("aerial_runtime.camera.watched_folder.LOOK_S", 0.03)
    monkeypatch.setattr("aerial_runtime.camera.watched_folder.GIVE_UP_S", 1.2)
    (tmp_path / "card").mkdir()
    (tmp_path / "card" / "old.jpg").write_bytes(JPEG)
    watch = Watch(tmp_path / "card")
    yield watch
    watch.close()


def test_new_pictures_in_order_and_old_ones_not(watch, tmp_path):
    card = tmp_path / "card"
    before_ns = time.monotonic_ns()
    (card / "b.jpg").write_bytes(JPEG)
    watch.wait(1)
    (card / "a.JPG").write_bytes(JPEG)
    (card / "notes.txt").write_text("text")
    (card / "part.jpg.tmp").write_bytes(JPEG)
    assert watch.wait(2) == ["b.jpg", "a.JPG"]
    assert [frame.index for frame in watch.frames] == [0, 1]
    assert watch.frames[0].image_bgr.shape == (48, 64, 3)
    assert before_ns < watch.frames[0].captured_mono_ns < watch.frames[1].captured_mono_ns < time.monotonic_ns()
    assert abs(watch.frames[0].captured_utc_ns - time.time_ns()) < 10e9
    assert (watch.source.name, watch.source.live) == ("card", False)


def test_a_picture_written_slowly_is_taken_when_it_is_whole(watch, tmp_path, monkeypatch):
    monkeypatch.setattr("aerial_runtime.camera.watched_folder.GIVE_UP_S", 3600.0)
    with (tmp_path / "card" / "slow.jpg").open("wb") as file:
        for start in range(0, len(JPEG), len(JPEG) // 4 + 1):
            file.write(JPEG[start : start + len(JPEG) // 4 + 1])
            file.flush()
            assert watch.frames == []
            time.sleep(0.15)  # longer than between two looks: standing still is not enough
    assert watch.wait(1) == ["slow.jpg"]
    assert watch.source.unreadable == 0


def test_a_whole_picture_that_still_grows_waits(watch, tmp_path, monkeypatch):
    monkeypatch.setattr("aerial_runtime.camera.watched_folder.LOOK_S", 2.0)
    with (tmp_path / "card" / "preview.jpg").open("wb") as file:
        file.write(JPEG)
        for _ in range(20):
            file.write(b"maker's preview")
            file.flush()
            assert watch.frames == []
            time.sleep(0.01)
    assert watch.wait(1) == ["preview.jpg"]


def test_a_picture_that_is_moved_into_place(watch, tmp_path):
    (tmp_path / "next").write_bytes(JPEG)
    (tmp_path / "next").rename(tmp_path / "card" / "new.jpg")
    assert watch.wait(1) == ["new.jpg"]


def test_a_picture_that_stays_broken_is_counted_and_holds_up_nobody(watch, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("aerial_runtime.camera.watched_folder.GIVE_UP_S", 3600.0)
    (tmp_path / "card" / "broken.jpg").write_bytes(JPEG[:-500])
    time.sleep(0.1)
    (tmp_path / "card" / "good.jpg").write_bytes(JPEG)
    assert watch.wait(1) == ["good.jpg"]
    assert watch.source.unreadable == 0
    monkeypatch.setattr("aerial_runtime.camera.watched_folder.GIVE_UP_S", 0.5)
    assert watch.wait(2) == ["good.jpg"]
    assert watch.source.unreadable == 1
    assert "broken.jpg" in capsys.readouterr().err
    time.sleep(0.2)
    assert watch.source.unreadable == 1  # once


def test_many_at_once_come_all_by_their_names(watch, tmp_path):
    names = [f"{number:03}.jpg" for number in range(30)]
    for name in names:
        (tmp_path / "card" / name).write_bytes(JPEG)
    assert watch.wait(30) == names


def test_a_card_that_is_pulled_out_and_put_back(watch, tmp_path, capsys):
    (tmp_path / "card").rename(tmp_path / "away")
    told = ""
    for _ in range(250):
        told += capsys.readouterr().err
        if "cannot be read" in told:
            break
        time.sleep(0.02)
    (tmp_path / "card").mkdir()  # the mount point without its card
    time.sleep(0.15)
    (tmp_path / "card").rmdir()
    shutil.copytree(tmp_path / "away", tmp_path / "back")  # other inodes, as FAT gives them
    (tmp_path / "back" / "new.jpg").write_bytes(JPEG)
    (tmp_path / "back").rename(tmp_path / "card")
    assert watch.wait(1) == ["new.jpg"]
    time.sleep(0.15)
    assert len(watch.frames) == 1  # what was there before stays known
    assert (told + capsys.readouterr().err).count("cannot be read") == 1


def test_a_card_that_is_pulled_out_while_a_picture_is_read(watch, tmp_path, monkeypatch):
    whole, card, away = watched_folder.read_picture, tmp_path / "card", tmp_path / "away"

    def pulled_out(path):
        card.rename(away)
        monkeypatch.setattr(watched_folder, "read_picture", whole)
        return whole(path)

    monkeypatch.setattr(watched_folder, "read_picture", pulled_out)
    (card / "new.jpg").write_bytes(JPEG)
    assert watch.wait(1) == [] and watch.source.unreadable == 1
    away.rename(card)
    assert watch.wait(2) == ["new.jpg"]


def test_a_card_that_does_not_even_tell_what_it_holds(watch, tmp_path, monkeypatch):
    """As of a dead FUSE mount: looking at a file is an error of another kind than that there is none."""
    picture, whole = tmp_path / "card" / "new.jpg", Path.stat
    is_dead = threading.Event()

    def stat(path, **more):
        if is_dead.is_set() and path == picture:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return whole(path, **more)

    def read(path):
        is_dead.set()
        raise InputError(f"{path} cannot be read")

    monkeypatch.setattr(Path, "stat", stat)
    monkeypatch.setattr(watched_folder, "read_picture", read)
    picture.write_bytes(JPEG)
    assert watch.wait(1) == [] and watch.source.unreadable == 1
    assert watch.is_reading


def test_a_name_that_is_used_again_for_another_picture(watch, tmp_path):
    for count in (1, 2, 3):
        path = tmp_path / "card" / ("old.jpg" if count == 3 else "latest.jpg")
        path.unlink(missing_ok=True)
        time.sleep(0.15)
        path.write_bytes(JPEG)
        names = watch.wait(count)
    assert names == ["latest.jpg", "latest.jpg", "old.jpg"]
