"""Damaged and absurd input, in process: only an AerialError may come out, in bounded time and memory.

`python tests/bench/fuzz.py --count 10000 --seed 1` tries it all; `--only N` repeats one input of that seed. Input N
follows from the seed and N alone. A hang or a crash of a library below Python ends the process with a stack; the
number of the input is then in the file `input` of the folder that was printed first.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import random
import resource
import shutil
import socket
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import zmq

from aerial_runtime.backends import open_backend
from aerial_runtime.bundle import MANIFEST, MODELS, Bundle
from aerial_runtime.camera import CameraOptions, open_source
from aerial_runtime.camera.image_file import read_image
from aerial_runtime.config import SETTINGS, SHIPPED_MODELS, parse_config, toml_of
from aerial_runtime.errors import AerialError
from aerial_runtime.publish import Publisher

HANG_S = 20  # for one input; the slowest good ones take a second
MEMORY_BYTES = 8 << 30  # of address space: what would fill the machine fails instead
FRAMES, SOURCE_S = 3, 1.0  # of an opened source
PRINTABLE = bytes(range(32, 127))
NUMBERS = ["-1", "0", "1", "1e999", "nan", "-inf", "9" * 40, "0x10", "2147483648", "1_0", "½", ""]
TEXTS = [
    "",
    " ",
    "none",
    "auto",
    "demo",
    "é\u202e",
    "\udcff",
    "a" * 5000,
    "a\0b",
    "%s%n",
    "../..",
    "-",
    "--",
    "=",
    "[",
    '"',
]
ENDPOINTS = [
    "tcp://127.0.0.1:*",
    "ipc://x",
    "tcp://*:99999",
    "inproc://a",
    "udp://1",
    "ipc://" + "a" * 200,
    "tcp://[::1",
]
CAMERAS = [
    *(
        "demo",
        "good.png",
        "good.jpg",
        "text.png",
        "empty.png",
        "folder",
        "bare",
        "*.png",
        "**/*.png",
        "[",
        "?",
        "linked.png",
    ),
    *("video.avi", "cut.avi", "text.mp4", "/dev/null", "/dev/video77", "/dev/nothing", "77", "0" * 30, "²", "."),
    *("watch:folder", "watch:bare", "watch:", "watch:nothing", "csi://0", "csi://x", "csi://", "rtsp://127.0.0.1:9/x"),
    *("http://127.0.0.1:9/x", "udp://127.0.0.1:9999", "rtsp://", "rtsp://[", "file:good.png", "x://y"),
    *("videotestsrc num-buffers=2 ! videoconvert", "nosuchelement ! x", " ! ", "videotestsrc !", "! fakesink"),
]
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48)  # ZMTP 3.0, as libzmq sends it
READY = b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03SUB"
SUBSCRIBE = b"\x00\x0b\x01detections"


class Fuzz:
    """Everything that input is tried on, in a folder of its own, which must be the current one."""

    def __init__(self, stack: ExitStack, models: Path) -> None:
        """models: a folder with both models."""
        self.publisher = stack.enter_context(Publisher([ENDPOINTS[0]]))
        self.context = stack.enter_context(zmq.Context())
        self.listener = stack.enter_context(self.context.socket(zmq.SUB))
        self.listener.set(zmq.SUBSCRIBE, b"detections")
        self.listener.connect(self.publisher.endpoints[0])
        self.images = write_files()
        self.models = [(models / name).read_bytes() for name in MODELS]
        self.bundle = write_bundle(models)
        self.kinds: dict[str, tuple[Callable[[random.Random], Any], Callable[[Any], object]]] = {
            "config file": (self.make_toml, self.try_toml),
            "flags": (make_flags, self.try_flags),
            "camera": (make_camera, try_camera),
            "image": (lambda rng: mutate(rng, rng.choice(self.images)), self.try_image),
            "model": (lambda rng: mutate(rng, rng.choice(self.models)), self.try_model),
            "bundle": (self.make_bundle, self.try_bundle),
            "control": (make_control, self.try_control),
        }

    def make(self, seed: int, index: int) -> tuple[str, Any]:
        """Return the kind of an input and the input."""
        rng = random.Random(f"{seed}/{index}")
        kind = list(self.kinds)[index % len(self.kinds)]
        return kind, self.kinds[kind][0](rng)

    def attempt(self, kind: str, given: Any) -> bool:
        """Try one input; return whether it was refused. Raises whatever is not an AerialError."""
        try:
            self.kinds[kind][1](given)
        except AerialError as error:
            if "\n" in str(error).strip():
                raise RuntimeError("the error is more than one line") from error
            return True
        return False

    def make_toml(self, rng: random.Random) -> bytes:
        """Return a config file: settings with absurd values, or a good one damaged."""
        if rng.random() < 0.5:
            return mutate(rng, toml_of(parse_config(["--camera", "demo", "--abstain", "letter=0.5"])).encode())
        values = [*NUMBERS, "true", "[]", "[1]", "{}", "{a=1}", "1979-05-27", "[[", "'x'", '["none"]', '"0.5"', '"9x9"']
        keys = [row.name for row in SETTINGS] + ["cnof", "", '"a b"', "a.b", "[camera]"]
        lines = [f"{rng.choice(keys)} = {rng.choice(values)}" for _ in range(rng.randrange(1, 6))]
        return "\n".join(['camera = "demo"'] * (rng.random() < 0.7) + lines).encode(errors="surrogateescape")

    def try_toml(self, data: bytes) -> None:
        """Read it, and what is printed of it."""
        Path("flight.toml").write_bytes(data)
        self.check_round_trip(["--config", "flight.toml"])

    def try_flags(self, argv: list[str]) -> None:
        """Read them, and what is printed of them."""
        self.check_round_trip(argv)

    def check_round_trip(self, argv: list[str]) -> None:
        """Raise RuntimeError where --print-config prints another configuration."""
        config = parse_config(argv)
        Path("again.toml").write_text(toml_of(config), encoding="utf-8")
        again = parse_config(["--config", "again.toml"])
        different = [
            row.name for row in SETTINGS if row.in_file and getattr(again, row.name) != getattr(config, row.name)
        ]
        if different:
            raise RuntimeError(f"print-config does not give back {different}")

    def try_image(self, data: bytes) -> None:
        """Decode it."""
        Path("image").write_bytes(data)
        image_bgr = read_image(Path("image"))
        if image_bgr.dtype != np.uint8 or image_bgr.ndim != 3 or image_bgr.shape[2] != 3 or 0 in image_bgr.shape:
            raise RuntimeError(f"a picture is {image_bgr.dtype} {image_bgr.shape}")

    def try_model(self, data: bytes) -> None:
        """Open it, and run it if it opens."""
        Path("model.onnx").write_bytes(data)
        with open_backend(Path("model.onnx"), "cpu", 1) as backend:
            _, *sides, _ = backend.card.inputs[0].shape
            shape = [1, *(side if isinstance(side, int) else 64 for side in sides), 3]
            if np.prod(shape, dtype=np.int64) < 1_000_000:
                backend.infer(np.zeros(shape, np.uint8))

    def make_bundle(self, rng: random.Random) -> bytes:
        """Return a damaged bundle: its bytes, or its manifest within a whole archive."""
        if rng.random() < 0.6:
            return mutate(rng, self.bundle)
        with zipfile.ZipFile("whole.aerial") as archive, zipfile.ZipFile("again.aerial", "w") as again:
            for name in archive.namelist():
                data = archive.read(name)
                again.writestr(name, mutate(rng, data) if name == MANIFEST or rng.random() < 0.1 else data)
        return Path("again.aerial").read_bytes()

    def try_bundle(self, data: bytes) -> None:
        """Open it, and its models."""
        Path("damaged.aerial").write_bytes(data)
        bundle = Bundle(Path("damaged.aerial"))
        bundle.golden_frame()
        with bundle.unpacked() as folder:
            for name in MODELS:
                open_backend(folder / name, "cpu", 1).close()

    def try_control(self, parts: list[bytes]) -> None:
        """Send it to the publisher, by a bare connection and by a ZeroMQ socket; a good listener must still hear."""
        address, port = self.publisher.endpoints[0].removeprefix("tcp://").split(":")
        with socket.create_connection((address, int(port)), timeout=5) as bare, suppress(OSError):
            bare.sendall(b"".join(parts))
        with self.context.socket(zmq.XSUB) as listener:
            listener.set(zmq.LINGER, 100)
            listener.connect(self.publisher.endpoints[0])
            listener.send_multipart(parts)
            for _ in range(2):
                self.publisher.send(b"detections", [b"{}"])
            self.hear()

    def hear(self) -> None:
        """Raise RuntimeError where the good listener hears nothing."""
        end_s = time.monotonic() + 10
        while time.monotonic() < end_s:
            if self.listener.poll(50):
                self.listener.recv_multipart()
                return
            self.publisher.send(b"detections", [b"{}"])
        raise RuntimeError("a listener hears nothing any more")


def mutate(rng: random.Random, data: bytes) -> bytes:
    """Damage bytes in one to four places: half of the time where text stands, since there structure is."""
    damaged = bytearray(data)
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(len(damaged) + 1)
        if rng.random() < 0.5:
            at = next((i for i in range(at, min(at + 100_000, len(damaged))) if damaged[i] in PRINTABLE), at)
        length = rng.choice([1, 1, 2, 4, 8, 64, 1000])
        kind = rng.randrange(7)
        if kind == 0:
            damaged[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            del damaged[at : at + length]
        elif kind == 2:
            damaged[at:at] = damaged[at : at + length]
        elif kind == 3:
            damaged[at:at] = rng.randbytes(length)
        elif kind == 4:
            damaged[at : at + length] = rng.choice([b"\0", b"\xff", b"\x7f", b"\x80"]) * length
        elif kind == 5:
            source = rng.randrange(len(damaged) + 1)
            damaged[at : at + length] = damaged[source : source + length]
        elif rng.random() < 0.3:
            del damaged[at:]
    return bytes(damaged)


def make_flags(rng: random.Random) -> list[str]:
    """Return a command line."""
    argv = ["--camera", rng.choice(CAMERAS)] * (rng.random() < 0.8)
    for _ in range(rng.randrange(1, 6)):
        row = rng.choice([row for row in SETTINGS if row.in_file])
        flag = row.flag if rng.random() < 0.9 else row.flag[: rng.randrange(len(row.flag))] + rng.choice(["", "x", "="])
        argv.append(flag)
        if row.kind.metavar and rng.random() < 0.9:
            argv.append(rng.choice([*NUMBERS, *TEXTS, *ENDPOINTS, *CAMERAS, "0.5", "640x480", "letter=0.5", "console"]))
    # These end the process by design, and what is free of limits may name a file of this machine.
    return [word for word in argv if not word.startswith(("--help", "--version", "-h", "--config"))]


def make_camera(rng: random.Random) -> str:
    """Return what --camera may be given; nothing that leaves the folder, opens devices or calls other machines."""
    uri = rng.choice(CAMERAS)
    if rng.random() < 0.6 and not uri.startswith(("/", "rtsp", "http", "udp")):
        text = mutate(rng, uri.encode()).decode(errors="replace") if uri else ""
        uri = text if "/" not in text.replace("//", "") and ".." not in text and ":" not in text else uri
    return uri.replace("\0", "")[:3000]


def try_camera(uri: str) -> None:
    """Open it and take a few frames."""
    with open_source(uri, CameraOptions(timeout_s=0.3)) as source:
        end_s = time.monotonic() + SOURCE_S
        for taken, _ in enumerate(source, 1):
            if taken == FRAMES or time.monotonic() > end_s:
                break


def make_control(rng: random.Random) -> list[bytes]:
    """Return what a listener may send: subscriptions, a damaged handshake, or noise."""
    if rng.random() < 0.5:
        return [mutate(rng, GREETING + READY + SUBSCRIBE * rng.randrange(3))]
    return [
        rng.choice([b"\x01", b"\x00", b"\x02", b""]) + rng.randbytes(rng.choice([0, 1, 9, 300, 70_000]))
    ] * rng.choice([1, 3])


def write_files() -> list[bytes]:
    """Write what the URIs name into the current folder; return the bytes of good images."""
    rows, columns = np.mgrid[:60, :80]
    image_bgr = np.dstack([rows * 4, columns * 3, rows + columns]).astype(np.uint8)
    images = [cv2.imencode(suffix, image_bgr)[1].tobytes() for suffix in (".png", ".jpg", ".bmp", ".tif")]
    Path("good.png").write_bytes(images[0])
    Path("good.jpg").write_bytes(images[1])
    Path("text.png").write_text("text")
    Path("text.mp4").write_text("text")
    Path("empty.png").touch()
    for folder in ("folder", "bare"):
        Path(folder).mkdir()
    Path("folder/good.jpg").write_bytes(images[1])
    Path("linked.png").symlink_to("linked.png")
    writer = cv2.VideoWriter("video.avi", cv2.VideoWriter.fourcc(*"MJPG"), 10, (80, 60))
    for _ in range(3):
        writer.write(image_bgr)
    writer.release()
    Path("cut.avi").write_bytes(Path("video.avi").read_bytes()[:3000])
    return images


def write_bundle(models: Path) -> bytes:
    """Write a bundle of the shipped manifest and the given models as whole.aerial; return its bytes."""
    with zipfile.ZipFile(SHIPPED_MODELS) as archive, zipfile.ZipFile("whole.aerial", "w") as whole:
        for name in archive.namelist():
            whole.writestr(name, (models / name).read_bytes() if name in MODELS else archive.read(name))
    return Path("whole.aerial").read_bytes()


def main() -> int:
    """Try all inputs; return 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="inputs to try (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the inputs (%(default)s)")
    parser.add_argument("--only", type=int, metavar="N", help="try this input alone")
    args = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    faulthandler.enable()
    stderr = os.dup(2)
    with ExitStack() as stack:
        folder = tempfile.mkdtemp(prefix="aerial-fuzz-")
        print(f"seed {args.seed}, in {folder}", flush=True)
        models = stack.enter_context(Bundle(SHIPPED_MODELS).unpacked())
        os.chdir(folder)
        fuzz = Fuzz(stack, models)
        failed = refused = 0
        slowest = (0.0, 0, "")
        indices = range(args.count) if args.only is None else [args.only]
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (the sentences about unreadable frames)
        for done, index in enumerate(indices, 1):
            Path("input").write_text(f"--seed {args.seed} --only {index}")
            faulthandler.dump_traceback_later(HANG_S, exit=True, file=stderr)
            start_s = time.monotonic()
            kind, given = fuzz.make(args.seed, index)
            try:
                refused += fuzz.attempt(kind, given)
            except Exception as error:  # noqa: BLE001 (that is what is looked for)
                failed += 1
                print(f"FAILED --seed {args.seed} --only {index}: {kind}: {type(error).__name__}: {error!s:.300}")
                print(f"  given {given!r:.300}", flush=True)
            slowest = max(slowest, (time.monotonic() - start_s, index, kind))
            if done % 1000 == 0:
                print(f"{done} tried, {refused} refused, {failed} failed", flush=True)
        faulthandler.cancel_dump_traceback_later()
    if not failed:
        shutil.rmtree(folder)
    seconds, index, kind = slowest
    print(f"{len(indices)} tried, {refused} refused, {failed} failed; the slowest: {kind} {index}, {seconds:.1f} s")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
