"""Frames from image files: one, a folder of them, or those that a pattern matches."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

from aerial_runtime.camera.base import Source, frame_now
from aerial_runtime.camera.image_file import IMAGE_SUFFIXES, read_picture
from aerial_runtime.contract import Frame
from aerial_runtime.errors import InputError


class FileSource(Source):
    """Image files in the order given. None is ever dropped; the index counts every file, unreadable ones too."""

    def __init__(self, paths: Sequence[Path], name: str) -> None:
        """paths: at least one."""
        super().__init__(name)
        self._paths = list(paths)

    def __iter__(self) -> Iterator[Frame | None]:
        """Yield one frame for each file, None where it cannot be read."""
        for index, path in enumerate(self._paths):
            try:
                image_bgr, encoded = read_picture(path)
            except InputError as error:
                self._skip(str(error))
                yield None
            else:
                yield frame_now(image_bgr, path.name, index, encoded)


def images_in(folder: Path) -> list[Path]:
    """Return the images directly in a folder, sorted by name. Raises InputError if there are none."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    except OSError as error:
        raise InputError(f"cannot read the folder {folder} ({error.strerror})") from error
    if not paths:
        raise InputError(f"the folder {folder} holds no images ({' '.join(IMAGE_SUFFIXES)}); name another folder")
    return paths


def images_like(pattern: str) -> list[Path]:
    """Return the images that a shell pattern matches, sorted. Raises InputError if there are none."""
    paths = sorted(Path(match) for match in glob.glob(pattern, recursive=True))  # noqa: PTH207 (takes absolute ones)
    paths = [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES]
    if not paths:
        raise InputError(f"no image ({' '.join(IMAGE_SUFFIXES)}) matches {pattern!r}; check the pattern")
    return paths
