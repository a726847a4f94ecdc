"""`manifest.json` of a written dataset: what it holds, how it was made, and its statistics."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import msgspec

from aerial_runtime import __version__
from aerial_runtime.card import LabelSpace
from aerial_runtime.contract import DECODE_ERRORS
from aerial_runtime.errors import InputError, ResourceError

DATASET_SCHEMA: Final = "aerial.dataset/2"
MANIFEST_FILE: Final = "manifest.json"
PHOTOS: Final = "photos"  # the recipe of real photos that were read from elsewhere


Kind = Literal["frames", "crops"]


class Manifest(msgspec.Struct, frozen=True, kw_only=True, rename={"schema_": "schema"}):
    """What a dataset's folder holds.

    recipe, settings, seed: of the scenes; recipe `photos`: settings names what was read. splits: split -> pictures.
    statistics: as aerial_train.data.counts counts them; empty until the dataset is finished.
    """

    kind: Kind
    recipe: str
    settings: dict[str, Any]
    seed: int
    label_space: LabelSpace
    count: int = 0
    splits: dict[str, int] = {}
    statistics: dict[str, Any] = {}
    generator: str = f"aerial {__version__}"
    schema_: str = DATASET_SCHEMA

    def __post_init__(self) -> None:
        """Raise ValueError (msgspec turns it into a ValidationError) where crops do not say how they were cut."""
        if self.kind == "crops" and not {"size", "margin"} <= self.settings.keys():
            raise ValueError("the settings of crops need size and margin")


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write or replace a folder's manifest; what stood there stays until the new one is whole. Raises OSError."""
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    write_whole(folder / MANIFEST_FILE, lambda file: file.write(text + b"\n"))


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a file under another name, renamed when it is on disk: a whole one or none. Raises OSError."""
    unfinished = path.with_name(path.name + ".part")
    try:
        with unfinished.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def new_folder(folder: Path, *parts: str) -> None:
    """Make a dataset's folder and its parts. Raises ResourceError where it exists or cannot be."""
    try:
        folder.mkdir(parents=True)
        for part in parts:
            (folder / part).mkdir()
    except OSError as error:
        raise ResourceError(f"cannot make the folder {folder} ({error.strerror}); choose another --out") from error


def disk_full(folder: Path, written: str, error: OSError) -> ResourceError:
    """Return the error of a dataset that could not be written whole. written: how much of it was, in words."""
    return ResourceError(
        f"only {written} could be written to {folder} ({error.strerror or 'is the disk full?'}); they can be used as "
        "they are, or make room and begin anew"
    )


def read_manifest(folder: Path) -> Manifest:
    """Read and check a dataset's manifest. Raises InputError."""
    path = folder / MANIFEST_FILE
    try:
        raw = msgspec.json.decode(path.read_bytes())
        if isinstance(raw, dict) and raw.get("schema") != DATASET_SCHEMA:
            raise InputError(
                f"{folder} is a dataset of another version ({raw.get('schema')}, this is {DATASET_SCHEMA}); "
                "write it again with aerial-train dataset"
            )
        return msgspec.convert(raw, Manifest)
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror}); give the folder of a dataset") from error
    except DECODE_ERRORS as error:
        raise InputError(f"{path} is not a dataset's manifest ({error}); write the dataset again") from error
