"""Where frames come from."""

from __future__ import annotations

import re
from pathlib import Path

from aerial_runtime.camera.base import Source
from aerial_runtime.camera.demo import demo_source
from aerial_runtime.camera.files import FileSource, images_in, images_like
from aerial_runtime.camera.image_file import IMAGE_SUFFIXES
from aerial_runtime.camera.video import VIDEO_SUFFIXES, V4l2Camera, VideoFile
from aerial_runtime.errors import InputError, UsageError


def open_source(uri: str) -> Source:
    """Open what `--camera` names.

    uri: "demo", an image file, a folder, a glob, a video file, "/dev/videoN" or the device's number alone.
    Raises UsageError (a kind of source that is not known), InputError (files), CameraError (devices).
    """
    if uri == "demo":
        return demo_source()
    if uri.isdecimal():
        return V4l2Camera(Path(f"/dev/video{uri}"))
    if uri.startswith("/dev/"):
        return V4l2Camera(Path(uri))
    path = Path(uri)
    if path.is_dir():
        return FileSource(images_in(path), path.resolve().name)
    if path.exists():
        return _open_file(path)
    if re.match(r"[a-z][a-z0-9+.-]+:", uri, re.IGNORECASE) or " ! " in uri:
        raise UsageError(
            f"--camera {uri!r} is not a kind of source that this version reads; give an image, a folder, "
            "a glob, a video file, /dev/videoN or demo"
        )
    if set(uri) & set("*?["):
        return FileSource(images_like(uri), path.parent.name or "files")
    raise InputError(f"--camera: there is no file or folder {uri!r}; check the path")


def _open_file(path: Path) -> Source:
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return FileSource([path], path.name)
    if suffix in VIDEO_SUFFIXES:
        return VideoFile(path)
    known = " ".join(IMAGE_SUFFIXES + VIDEO_SUFFIXES)
    raise InputError(f"{path} is neither an image nor a video by its name; known endings are {known}")


__all__ = ["Source", "open_source"]
