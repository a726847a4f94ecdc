"""What flies: a full camera frame in, detections on a socket out. Never imports the ground packages."""

from importlib.metadata import version

__version__ = version("aerial")
