"""What TensorRT has measured in earlier builds on this machine, kept beside the engines: it makes the next one quicker.

The file begins with the SHA-256 of the rest, for TensorRT is not to be given a damaged one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

TIMINGS_SUFFIX: Final = ".timings"
DIGEST_BYTES: Final = 32


def timings_to_bytes(timings: bytes) -> bytes:
    """Return what the file holds."""
    return hashlib.sha256(timings).digest() + timings


def read_timings(path: Path, progress: Callable[[str], None]) -> bytes:
    """Return the timings of earlier builds; nothing where there are none, or none that are whole."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        progress(f"cannot read {path.name} ({error.strerror}); measuring anew")
        return b""
    timings = data[DIGEST_BYTES:]
    if hashlib.sha256(timings).digest() != data[:DIGEST_BYTES]:
        progress(f"{path.name} is damaged; measuring anew")
        return b""
    return timings
