"""What flies: a full camera frame in, detections on a socket out. Never imports the ground packages."""

from importlib.metadata import version
from pathlib import Path

__version__ = version("aerial")


def _built_from() -> str:
    """Return "0.1.0+5e25dd1abcde" of a wheel, which holds the commit it was built from; "0.1.0" of a source tree."""
    try:
        return f"{__version__}+{Path(__file__).with_name('commit.txt').read_text(encoding='ascii').strip()}"
    except OSError:
        return __version__


BUILD = _built_from()
