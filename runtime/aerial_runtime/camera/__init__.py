"""Where frames come from."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from aerial_runtime.camera.base import Source, without_password
from aerial_runtime.camera.demo import demo_source
from aerial_runtime.camera.files import FileSource, images_in, images_like
from aerial_runtime.camera.gstreamer import GstreamerCamera, csi_pipeline, pipeline_words
from aerial_runtime.camera.image_file import IMAGE_SUFFIXES
from aerial_runtime.camera.options import CameraOptions, refuse_options
from aerial_runtime.camera.replay import REPLAY, Replay
from aerial_runtime.camera.stream import STREAM_SCHEMES, StreamCamera
from aerial_runtime.camera.v4l2 import V4l2Camera
from aerial_runtime.camera.video import VIDEO_SUFFIXES, VideoFile
from aerial_runtime.camera.watched_folder import WatchedFolder
from aerial_runtime.errors import InputError, UsageError

KINDS = (
    "give a picture, a folder, a glob, watch:FOLDER, a video file, replay:FILE.mcap, N or /dev/videoN, csi://N, "
    "rtsp:// udp:// http:// ..., a GStreamer pipeline, or demo"
)


def open_source(uri: str, options: CameraOptions = CameraOptions()) -> Source:  # noqa: B008 (frozen)
    """Open what `--camera` names.

    uri: "demo", an image file, a folder, a glob, "watch:FOLDER", a video file, "replay:FILE.mcap", "/dev/videoN" or the
    device's number alone, "csi://N", the address of a stream, or a GStreamer pipeline (its elements joined by " ! ").
    Raises UsageError (a kind or an option that is not known, a pipeline that cannot be), InputError (files),
    CameraError (devices and streams).
    """
    if not uri.strip() or "\0" in uri or not _is_text(uri):
        raise UsageError(f"--camera {uri!r} names nothing; {KINDS}")
    opener = _camera(uri, options)
    if opener is not None:
        return opener()
    try:
        return _open_files(uri, options)
    except (OSError, ValueError) as error:  # a path that no file system can have, or a folder closed to us
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"--camera: {uri!r} cannot be looked up ({reason}); check the path") from error


def source_name(uri: str) -> str:
    """Return what a live source is called in messages, before it is open; of other sources their uri."""
    scheme, _, rest = uri.partition("://")
    if " ! " in uri:
        return "gstreamer"  # a pipeline may hold a password anywhere
    if re.fullmatch("[0-9]{1,4}", uri):
        return f"video{int(uri)}"
    if _is_device(uri):
        return Path(uri).name
    if scheme.lower() == "csi" and rest.isdigit():
        return f"csi{int(rest)}"
    return without_password(uri)


def _is_device(uri: str) -> bool:
    """Tell whether a path is a device's. /dev/shm is memory: pictures lie there as in any folder."""
    return uri.startswith("/dev/") and not uri.startswith("/dev/shm/")


def _camera(uri: str, options: CameraOptions) -> Callable[[], Source] | None:
    """Return what opens a live source; None where `uri` is no such thing. Raises UsageError."""
    if " ! " in uri:
        refuse_options("a GStreamer pipeline (it holds its own caps and properties)", options)
        words = pipeline_words(uri)
        return lambda: GstreamerCamera(words, source_name(uri), options)
    if re.fullmatch("[0-9]{1,4}", uri) or _is_device(uri):
        refuse_options(f"the V4L2 camera {uri}", options, "width", "height", "fps", "pixel_format", "exposure_ms")
        device = Path(f"/dev/video{int(uri)}" if uri.isdigit() else uri)
        return lambda: V4l2Camera(device, options)
    scheme, _, rest = uri.partition("://")
    if scheme.lower() == "csi":
        if not re.fullmatch("[0-9]{1,4}", rest):
            raise UsageError(f"--camera {uri!r} names no CSI camera; give csi:// and its number, such as csi://0")
        refuse_options(f"the CSI camera {uri}", options, "width", "height", "fps", "exposure_ms")
        return lambda: GstreamerCamera(csi_pipeline(int(rest), options), source_name(uri), options)
    if scheme.lower() in STREAM_SCHEMES and rest:
        refuse_options(f"the stream {without_password(uri)} (its sender decides)", options)
        return lambda: StreamCamera(uri, options)
    return None


def _open_files(uri: str, options: CameraOptions) -> Source:
    """Open what lies on disk. Raises UsageError, InputError, and what looking at a strange path raises."""
    path = Path(uri)
    if path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES:
        refuse_options(f"the video file {path}", options, "pace")
        return VideoFile(path, pace=options.pace)
    if uri.startswith(REPLAY):
        refuse_options(f"the recording {uri.removeprefix(REPLAY)}", options, "pace")
        return Replay(Path(uri.removeprefix(REPLAY)), pace=options.pace)
    refuse_options(f"--camera {without_password(uri)}", options)
    if uri == "demo":
        return demo_source()
    if uri.startswith("watch:"):
        folder = uri.removeprefix("watch:")
        if not folder:
            raise InputError(f"--camera {uri!r}: no folder is named; give watch:FOLDER")
        return WatchedFolder(Path(folder))
    if path.is_dir():
        return FileSource(images_in(path), path.resolve().name)
    if path.exists():
        return _open_image(path)
    if re.match(r"[a-z][a-z0-9+.-]+:", uri, re.IGNORECASE):
        raise UsageError(f"--camera {without_password(uri)!r} is not a kind of source that there is; {KINDS}")
    if set(uri) & set("*?["):
        return FileSource(images_like(uri), path.parent.name or "files")
    raise InputError(f"--camera: there is no file or folder {uri!r}; check the path")


def _is_text(uri: str) -> bool:
    """Tell whether the system can be given a name: half a surrogate pair it cannot."""
    try:
        os.fsencode(uri)
    except UnicodeEncodeError:
        return False
    return True


def _open_image(path: Path) -> Source:
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return FileSource([path], path.name)
    known = " ".join(IMAGE_SUFFIXES + VIDEO_SUFFIXES)
    raise InputError(f"{path} is neither an image nor a video by its name; known endings are {known}")


__all__ = ["CameraOptions", "Source", "open_source", "source_name"]
