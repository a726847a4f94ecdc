"""The demo flight that the package ships: frames, and the truth beside them."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from aerial_runtime.camera.files import FileSource, images_in
from aerial_runtime.errors import InputError

DEMO_FOLDER = Path(str(files("aerial_runtime").joinpath("demo")))
TRUTH_FILE = "labels.json"


def demo_source(folder: Path = DEMO_FOLDER) -> FileSource:
    """Return the demo flight with its truth. Raises InputError where this installation has none."""
    if not folder.is_dir():
        raise InputError(f"this installation has no demo flight in {folder}; install the package again")
    source = FileSource(images_in(folder), "demo")
    truth = folder / TRUTH_FILE
    source.truth_path = truth if truth.is_file() else None
    return source
