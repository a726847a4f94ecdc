"""Files that appear whole or not at all: written aside, synced to the disk, renamed. Free of torch."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aerial_runtime.errors import ResourceError


@contextmanager
def new_files(folder: Path) -> Iterator[Path]:
    """Give an empty folder to write into; when the block ends well, its files replace their namesakes in `folder`.

    When it ends otherwise they are dropped, and what was in `folder` stays. Folders in it are for scratch. Raises
    ResourceError where a file cannot be written, because the disk is full above all.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".aerial-export.", dir=folder))
        try:
            yield aside
            files = sorted(path for path in aside.iterdir() if path.is_file())
            for path in files:
                _sync(path)
                if (folder / path.name).is_dir():  # it cannot be replaced, and then no other file may be either
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            for path in files:
                path.replace(folder / path.name)
            _sync(folder)
        finally:
            shutil.rmtree(aside)
    except OSError as error:
        raise ResourceError(
            f"cannot write into {folder.absolute()} ({error.strerror}), what was there is as it was; "
            "free space there, or choose another --output"
        ) from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
