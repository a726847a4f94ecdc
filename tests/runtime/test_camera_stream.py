"""Network streams on loopback: ffmpeg over UDP and HTTP, a GStreamer RTSP server over TCP."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from aerial_runtime.camera import CameraOptions, open_source
from aerial_runtime.camera.stream import OPTIONS_VARIABLE
from aerial_runtime.errors import CameraError, InputError

SYSTEM_PYTHON = "/usr/bin/python3"
RTSP_IMPORTS = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"


def has_rtsp_server() -> bool:
    if not Path(SYSTEM_PYTHON).exists() or shutil.which("gst-inspect-1.0") is None:
        return False
    imports = subprocess.run([SYSTEM_PYTHON, "-c", RTSP_IMPORTS], capture_output=True)
    payloader = subprocess.run(["gst-inspect-1.0", "rtpjpegpay"], capture_output=True)
    return imports.returncode == payloader.returncode == 0


needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg (apt install ffmpeg)")
needs_rtsp_server = pytest.mark.skipif(
    not has_rtsp_server(),
    reason="needs a GStreamer RTSP server (apt install python3-gi gir1.2-gst-rtsp-server-1.0)",
)


def free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def sent(address: str) -> Iterator[subprocess.Popen[bytes]]:
    """Send a moving test picture of 320x240 pixels, 25 a second, as MPEG-TS."""
    picture = ["-re", "-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25"]
    coded = ["-c:v", "mpeg2video", "-g", "10", "-f", "mpegts", address]
    process = subprocess.Popen(["ffmpeg", "-v", "error", *picture, *coded], stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@needs_ffmpeg
def test_ffmpeg_over_udp_and_the_sender_falls_silent():
    port = free_port(socket.SOCK_DGRAM)
    with sent(f"udp://127.0.0.1:{port}?pkt_size=1316") as sender:
        with open_source(f"udp://127.0.0.1:{port}", CameraOptions(timeout_s=0.5)) as source:
            assert source.live
            reader = iter(source)
            frames = [next(reader) for _ in range(10)]
            sender.kill()
            killed_s = time.monotonic()
            with pytest.raises(CameraError, match=rf"udp://127.0.0.1:{port} stopped after \d+ frames"):
                frames.extend(reader)
            assert time.monotonic() - killed_s < 2
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert {frame.image_bgr.shape for frame in frames} == {(240, 320, 3)}
    assert np.ptp(frames[0].image_bgr) > 200
    assert OPTIONS_VARIABLE not in os.environ


@needs_ffmpeg
def test_more_than_100_megapixels(monkeypatch):
    monkeypatch.setattr("aerial_runtime.camera.base.MAX_FRAME_MEGAPIXELS", 0.003)
    port = free_port(socket.SOCK_DGRAM)
    with sent(f"udp://127.0.0.1:{port}?pkt_size=1316"):
        with pytest.raises(InputError, match="has 320x240 pixels"):
            open_source(f"udp://127.0.0.1:{port}")


@needs_ffmpeg
def test_closing_while_another_thread_reads():
    port = free_port(socket.SOCK_DGRAM)
    with sent(f"udp://127.0.0.1:{port}?pkt_size=1316") as sender:
        source = open_source(f"udp://127.0.0.1:{port}", CameraOptions(timeout_s=0.6))
        frames: list[object] = []
        reader = threading.Thread(target=lambda: frames.extend(source))
        reader.start()
        sender.kill()
        time.sleep(0.2)
        source.close()
        reader.join(2)
    assert not reader.is_alive()  # and no error: it was told to end


@contextmanager
def served(pipeline: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    script = Path(__file__).with_name("rtsp_server.py")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    process = subprocess.Popen([SYSTEM_PYTHON, script, pipeline], stdout=subprocess.PIPE, text=True, env=environment)
    try:
        yield f"127.0.0.1:{int(process.stdout.readline())}/camera", process
    finally:
        process.kill()
        process.communicate()


@needs_rtsp_server
def test_a_gstreamer_rtsp_server():
    caps = "video/x-raw,format=I420,width=320,height=240,framerate=20/1"
    pipeline = f"videotestsrc is-live=true pattern=white ! {caps} ! jpegenc ! rtpjpegpay name=pay0 pt=26"
    with served(pipeline) as (at, server):
        with open_source(f"rtsp://user:secret@{at}", CameraOptions(timeout_s=1)) as source:
            reader = iter(source)
            frames = [next(reader) for _ in range(5)]
            server.kill()
            with pytest.raises(CameraError, match=r"rtsp://\*\*\*@127.0.0.1:\d+/camera stopped after"):
                list(reader)
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    assert frames[0].image_bgr.shape == (240, 320, 3) and frames[0].image_bgr.mean() > 230
    assert source.name == f"rtsp://***@{at}"


class _Mjpeg(BaseHTTPRequestHandler):
    """What IP cameras serve: JPEG after JPEG in one answer."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace;boundary=next")
        self.end_headers()
        jpeg = cv2.imencode(".jpg", np.full((48, 64, 3), 200, np.uint8))[1].tobytes()
        head = b"--next\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg)
        for _ in range(12):
            self.wfile.write(head + jpeg + b"\r\n")

    def log_message(self, *_: object) -> None:
        pass


def test_jpegs_over_http():
    with HTTPServer(("127.0.0.1", 0), _Mjpeg) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        frames = []
        with pytest.raises(CameraError, match="stopped after"):
            with open_source(f"http://127.0.0.1:{server.server_port}/video") as source:
                frames.extend(source)
        thread.join(2)
    assert len(frames) >= 10
    assert frames[0].image_bgr.shape == (48, 64, 3)


def test_nobody_answers():
    port = free_port(socket.SOCK_STREAM)
    for scheme in ("rtsp", "http", "tcp"):
        with pytest.raises(CameraError, match=rf"the stream {scheme}://127.0.0.1:{port}/x cannot be opened"):
            open_source(f"{scheme}://127.0.0.1:{port}/x")


def test_a_silent_port_is_given_up(monkeypatch):
    monkeypatch.setattr("aerial_runtime.camera.stream.OPEN_S", 0.3)
    start_s = time.monotonic()
    with pytest.raises(CameraError, match=r"waited 0\.3 s at most"):
        open_source(f"udp://127.0.0.1:{free_port(socket.SOCK_DGRAM)}", CameraOptions(timeout_s=0.2))
    assert time.monotonic() - start_s < 2


def test_a_setting_of_the_user_for_ffmpeg_stays(monkeypatch):
    monkeypatch.setenv(OPTIONS_VARIABLE, "rtsp_transport;udp")
    with pytest.raises(CameraError):
        open_source(f"rtsp://127.0.0.1:{free_port(socket.SOCK_STREAM)}/x")
    assert os.environ[OPTIONS_VARIABLE] == "rtsp_transport;udp"
