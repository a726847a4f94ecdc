"""Frames from a GStreamer pipeline, run by a child process that writes raw pictures to a pipe.

OpenCV's wheels are built without GStreamer, and its Python bindings belong to the system's Python, not to ours.
The command line tool comes with every GStreamer, and a driver that crashes takes only the child with it.

multipartmux puts the number of bytes before every picture, so a camera that changes its size in mid-stream is noticed
at that picture instead of shearing all later ones; gdppay would do the same but needs the `bad` plugins. Width and
height come from the caps that `-v` prints. Pixels are read from the pipe into the frame's own array.
"""

from __future__ import annotations

import fcntl
import os
import re
import select
import shlex
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from fractions import Fraction

import numpy as np

from aerial_runtime.camera.base import WAIT_S, Source, check_megapixels, without_password
from aerial_runtime.camera.options import CameraOptions
from aerial_runtime.contract import U8, Frame
from aerial_runtime.errors import CameraError, UsageError

TOOL = "gst-launch-1.0"
INSTALL = "apt install gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good"
# Lines of `-v` that give the size, of any of our elements: GStreamer loses the line of a pad whose caps are set while
# another thread tells of its own, so the line of one pad alone was missing at one start in seventy-five.
CAPS_LINE = re.compile(r"aerial_\w+\.GstPad:(?:sink|src): caps = .*width=\(int\)(\d+), height=\(int\)(\d+)")
BOUNDARY = "aerial"
HEADER = re.compile(rb"--aerial\r\nContent-Type: [^\r\n]*\r\nContent-Length: (\d+)\r\n\r\n")
STALE_S = 0.1  # a picture may have waited as long in the pipe before it is passed over for a newer one
PAGE, MIB = 4096, 1 << 20


def csi_pipeline(sensor: int, options: CameraOptions) -> list[str]:
    """Return the words of the pipeline of a Jetson's CSI camera: its processor gives NV12, nvvidconv the pixels."""
    source = ["nvarguscamerasrc", f"sensor-id={sensor}"]
    if options.exposure_ms is not None:
        nanoseconds = round(options.exposure_ms * 1e6)
        source.append(f"exposuretimerange={nanoseconds} {nanoseconds}")  # lowest and highest
    caps = "video/x-raw(memory:NVMM),format=NV12"
    if options.width and options.height:
        caps += f",width={options.width},height={options.height}"
    if options.fps:
        rate = Fraction(options.fps).limit_denominator(1001)
        caps += f",framerate={rate.numerator}/{rate.denominator}"
    return [*source, "!", caps, "!", "nvvidconv", "!", "video/x-raw,format=BGRx"]


def pipeline_words(text: str) -> list[str]:
    """Split a pipeline as a shell would; a closing appsink, which OpenCV wants, is dropped. Raises UsageError."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(
            f"the GStreamer pipeline {text!r} cannot be split into words ({error}); check the quotes"
        ) from None
    if words[-1] == "!":
        words.pop()
    last = len(words) - words[::-1].index("!") if "!" in words else 0
    if words[last:] and words[last] == "appsink":
        del words[max(last - 1, 0) :]
    if not words or words[0].startswith(("-", "!")):
        raise UsageError(f"the GStreamer pipeline {text!r} starts with no element; put the camera's source first")
    return words


class GstreamerCamera(Source):
    """What a pipeline gives, newest picture first: a queue of one picture before the conversion loses older ones.

    Lost pictures are not counted: GStreamer does not say how many its queue let go.
    """

    live = True

    def __init__(self, words: Sequence[str], name: str, options: CameraOptions) -> None:
        """Start the pipeline; wait for its first caps for at most timeout_s, and leave the rest to the reader.

        Raises UsageError (no GStreamer, no such element, a pipeline that does not fit together), CameraError (it ends).
        """
        super().__init__(name)
        self._timeout_s = options.timeout_s
        self._pipe, writing = os.pipe()
        self._lock = threading.Lock()  # held while reading, so that `close` never closes the pipe under a read
        self._closed = False
        self._size_px: tuple[int, int] | None = None  # width, height
        self._has_changed_size = False
        self._has_ended = False
        self._has_size_or_end = threading.Event()
        self._lines: deque[str] = deque(maxlen=50)
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PAGE)  # until the size is known, lest it hold several small pictures
        try:
            self._child = _launch(words, writing)
        except BaseException:
            os.close(self._pipe)
            raise
        finally:
            os.close(writing)
        self._talk = threading.Thread(target=self._listen, name="gst-launch", daemon=True)
        self._talk.start()
        self._has_size_or_end.wait(self._timeout_s)
        self._looked_ns = time.monotonic_ns()  # what comes while nobody looks grows old in the pipe
        if self._size_px is None and self._has_ended:
            error = self._why_ended(0)
            self.close()
            raise error

    def __iter__(self) -> Iterator[Frame | None]:
        """Yield frames for ever, None when none came for WAIT_S. Raises CameraError when the pipeline ends."""
        try:
            yield from self._frames()
        except CameraError:
            if not self._closed:
                raise

    def _frames(self) -> Iterator[Frame | None]:
        index = 0
        header = b""
        while not self._closed:
            with self._lock:
                is_waiting = self._has_bytes(0)
                is_stale = is_waiting and time.monotonic_ns() - self._looked_ns > STALE_S * 1e9
                if self._closed or not (is_waiting or self._has_bytes(WAIT_S)):
                    frame = None
                else:
                    stamps = time.time_ns(), time.monotonic_ns()
                    header = self._read_header(header, index)
                    frame = Frame(self._read_picture(header, index), f"{self.name}:{index}", index, *stamps)
                    index += 1
                self._looked_ns = time.monotonic_ns()
            if is_stale and frame is not None:  # the next one waits in the queue and is newer
                self.dropped += 1
                continue
            yield frame

    def close(self) -> None:
        """End the child and the pipe. A reader in another thread comes back within WAIT_S."""
        self._closed = True
        if self._child.poll() is None:
            self._child.send_signal(signal.SIGINT)  # its orderly end: a CSI camera that is killed may stay taken
        with self._lock:
            if self._pipe >= 0:
                os.close(self._pipe)  # a child that is in the middle of a picture gets an error and ends
                self._pipe = -1
        try:
            self._child.wait(1.0)
        except subprocess.TimeoutExpired:
            self._child.kill()
            with suppress(subprocess.TimeoutExpired):  # it hangs in a driver: the kernel has it, not we
                self._child.wait(0.5)
        self._talk.join(1.0)
        if self._child.stdout and not self._talk.is_alive():
            self._child.stdout.close()

    def _listen(self) -> None:
        """Take the child's lines until it ends: the size, and what to say when it fails."""
        for line in self._child.stdout or ():
            found = CAPS_LINE.search(line)
            if found:
                size_px = int(found[1]), int(found[2])
                self._has_changed_size |= self._size_px not in (None, size_px)
                self._size_px = size_px
                self._has_size_or_end.set()
            else:
                self._lines.append(line.strip())
        self._has_ended = True
        self._has_size_or_end.set()

    def _has_bytes(self, wait_s: float) -> bool:
        """Tell whether the pipe has something to read, or has ended. The lock is held."""
        if self._pipe < 0:
            return False
        poll = select.poll()
        poll.register(self._pipe, select.POLLIN)
        return bool(poll.poll(wait_s * 1000))

    def _read_header(self, last: bytes, index: int) -> bytes:
        """Return what stands before a picture: byte for byte the same before each but the first, which is searched."""
        if last:
            again = np.empty(len(last), np.uint8)
            self._fill(again, index)
            if again.tobytes() != last:
                raise self._why_resized(index)
            return last
        header = b""
        byte = np.empty(1, np.uint8)
        while not HEADER.fullmatch(header):
            if len(header) > 500:
                raise CameraError(f"{self.name} writes something else than pictures; the pipeline may end in no video")
            self._fill(byte, index)
            header += byte.tobytes()
        return header

    def _read_picture(self, header: bytes, index: int) -> U8:
        """Return the next picture, uint8 [H, W, 3] BGR. GStreamer's rows begin at multiples of 4 bytes."""
        found = HEADER.fullmatch(header)
        self._has_size_or_end.wait(self._timeout_s)  # its line may come a moment after the first picture
        if found is None or self._size_px is None:
            raise CameraError(f"{self.name} does not say how large its pictures are")
        width, height = self._size_px
        check_megapixels(self.name, width, height)
        row_bytes = (3 * width + 3) // 4 * 4
        if int(found[1]) != row_bytes * height:
            if self._has_changed_size:  # told while the last pictures of the old size were still on their way
                raise self._why_resized(index)
            raise CameraError(f"{self.name} gives {found[1].decode()} bytes for {width}x{height} pixels of BGR")
        if index == 0:
            self._widen_pipe(row_bytes * height)
        rows = np.empty((height, row_bytes), np.uint8)
        self._fill(rows.reshape(-1), index)
        self._fill(np.empty(2, np.uint8), index)  # \r\n: left behind, it would pass for the next picture's coming
        return np.ascontiguousarray(rows[:, : 3 * width].reshape(height, width, 3))  # a copy only of padded rows

    def _fill(self, target: U8, index: int) -> None:
        """Read until the array is full. Raises CameraError where the rest does not come in time."""
        view = target.data
        deadline_s = time.monotonic() + self._timeout_s
        while len(view):
            if not self._has_bytes(0.1):
                if self._closed or time.monotonic() > deadline_s:
                    raise CameraError(f"{self.name} stopped in the middle of frame {index}")
                continue
            count = os.readv(self._pipe, [view])
            if count == 0:
                self._talk.join(1.0)
                raise self._why_ended(index)
            view = view[count:]

    def _widen_pipe(self, picture_bytes: int) -> None:
        """Let the pipe hold up to half a picture: fewer turns of both processes, and never an old picture whole."""
        size = min(max(1 << ((picture_bytes // 2).bit_length() - 1), PAGE), MIB)
        with suppress(OSError):  # this user's pipes hold enough already: it works with a small one too
            fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, size)

    def _why_resized(self, frames: int) -> CameraError:
        return CameraError(f"{self.name} changed the size of its pictures after {frames} frames")

    def _why_ended(self, frames: int) -> UsageError | CameraError:
        lines = [without_password(line) for line in list(self._lines) if line]
        for line in lines:
            what = line.partition("erroneous pipeline: ")[2]
            if what:
                return UsageError(f"GStreamer cannot build the pipeline of {self.name}: {what}{_remedy(what)}")
        errors = [line for line in lines if line.startswith(("ERROR: ", "Got EOS "))]
        reason = errors[0] if errors else (lines or ["it said nothing"])[-1]
        return CameraError(f"the GStreamer pipeline of {self.name} ended after {frames} frames: {reason}")


def _launch(words: Sequence[str], writing: int) -> subprocess.Popen[str]:
    """Start the pipeline with the frames going to a pipe. Raises UsageError where there is no GStreamer."""
    limits = ["leaky=downstream", "max-size-buffers=1", "max-size-bytes=0", "max-size-time=0"]
    newest = ["queue", "name=aerial_newest", *limits]
    pixels = ["videoconvert", "name=aerial_convert", "!", "capsfilter", "name=aerial_pixels"]
    bgr = "caps=video/x-raw,format=BGR"
    frames = ["multipartmux", f"boundary={BOUNDARY}", "!", "fdsink", f"fd={writing}", "sync=false"]
    try:
        return subprocess.Popen(
            [TOOL, "-v", *words, "!", *newest, "!", *pixels, bgr, "!", *frames],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[writing],
            env={**os.environ, "LC_ALL": "C"},
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C is for us: we end the child
            restore_signals=False,  # without SIGPIPE it notices that nobody reads and ends in order
        )
    except FileNotFoundError:
        raise UsageError(
            f"this source needs GStreamer, and there is no {TOOL}; install it ({INSTALL}; on a Jetson also "
            "nvidia-l4t-gstreamer), or give a V4L2 camera or a stream, which do without"
        ) from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{TOOL} cannot be started ({error}); check the pipeline and the installation") from error


def _remedy(what: str) -> str:
    """Say what to install where an element is missing."""
    found = re.search(r'no element "([^"]*)"', what)
    if not found:
        return "; try it with gst-launch-1.0"
    if found[1].startswith("nv"):
        return "; it comes with a Jetson's JetPack (apt install nvidia-l4t-gstreamer) and works on no other machine"
    return (
        "; check its name, or install the package that brings it (gstreamer1.0-plugins-base, -good, -bad or -ugly, "
        f"gstreamer1.0-libav): `gst-inspect-1.0 {found[1]}` must find it"
    )
