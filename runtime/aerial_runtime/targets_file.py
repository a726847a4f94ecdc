"""All targets of a flight in one JSON file, written at its end: whole, or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

import msgspec

from aerial_runtime.contract import DECODE_ERRORS, FlightTargets
from aerial_runtime.errors import InputError, ResourceError, UsageError
from aerial_runtime.output_file import sync_folder

PART = ".part"  # behind the name, until the file is whole


class TargetsFile:
    """The file of --targets."""

    def __init__(self, path: Path, overwrite: bool) -> None:
        """Check that it can be written, and leave nothing.

        Raises UsageError where it exists and `overwrite` is not given, ResourceError where it cannot be written.
        """
        self._path = path
        self._part = path.with_name(f"{path.name}.{token_hex(4)}{PART}")  # nobody's: another file may be NAME.part
        try:  # also to look: a folder that is closed to us does not even tell what it holds
            if path.exists() and not path.is_file():
                raise UsageError(f"--targets {path} is not a regular file; give another --targets")
            if path.exists() and not overwrite:
                raise UsageError(f"the file of --targets {path} exists; give --overwrite, or another --targets")
            self._part.open("xb").close()
            self._part.unlink()
        except OSError as error:
            raise self._refusal(error) from error

    def write(self, flight: FlightTargets) -> None:
        """Write the file, in the place of an old one. Raises ResourceError."""
        try:
            with self._part.open("xb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(flight), indent=1) + b"\n")
                file.flush()
                os.fsync(file.fileno())  # before the name: crews pull the battery right after the landing
            self._part.replace(self._path)
            with suppress(OSError):  # not every file system can
                sync_folder(self._path)
        except OSError as error:
            with suppress(OSError):
                self._part.unlink()
            raise self._refusal(error) from error

    def _refusal(self, error: OSError) -> ResourceError:
        return ResourceError(f"cannot write --targets {self._path} ({error.strerror}); check the folder and the disk")


def read_targets(path: Path) -> FlightTargets:
    """Read a file of --targets. Raises InputError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=FlightTargets)
    except OSError as error:
        raise InputError(f"cannot read the targets {path} ({error.strerror}); check the path") from error
    except DECODE_ERRORS as error:
        raise InputError(f"{path} is no file of targets ({error}); give what aerial-runtime --targets wrote") from error
