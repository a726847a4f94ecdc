"""Bad input through the real command: the exit code, and one sentence on stderr that names the thing."""

from __future__ import annotations

import struct
import subprocess
import sys

import cv2
import numpy as np
import pytest
import zmq

from aerial_runtime.card import Head, LabelSpace
from aerial_runtime.daemon import main


@pytest.fixture
def frames(tmp_path, kit):
    """A folder with one good frame."""
    folder = tmp_path / "frames"
    folder.mkdir()
    cv2.imwrite(str(folder / "good.png"), kit.frame(64, 48, (8, 8, 8, (0, 0, 255))))
    return folder


@pytest.fixture
def fly(tiny_models, frames, capsys):
    """Run the command; return its exit code and the lines on stderr. Later flags win over these."""

    def fly(*flags):
        usual = ["--camera", str(frames), "--models", str(tiny_models), "--quiet"]
        if "--bind" not in flags:  # which would not win, but be added
            usual += ["--bind", "none"]
        code = main([*usual, *map(str, flags)])
        return code, capsys.readouterr().err.splitlines()

    return fly


def refused(answer, code, *names):
    """Check for one line of error with all names in it, and the exit code."""
    assert answer[0] == code
    (line,) = answer[1]
    assert line.startswith("aerial-runtime: error: ")
    assert all(str(name) in line for name in names), line


def test_good_input_is_not_refused(fly):
    assert fly() == (0, [])


def test_missing_file(fly):
    refused(fly("--camera", "nowhere/frame.png"), 3, "nowhere/frame.png")


def test_empty_folder(fly, tmp_path):
    (tmp_path / "empty").mkdir()
    refused(fly("--camera", tmp_path / "empty"), 3, tmp_path / "empty", "holds no images")


@pytest.mark.parametrize("content", [b"this is text", b"", b"\xff\xd8\xff\xe0"])
def test_one_file_that_is_no_image(fly, tmp_path, content):
    path = tmp_path / "text.jpg"
    path.write_bytes(content)
    code, lines = fly("--camera", path)
    assert code == 3
    assert str(path) in lines[0] and lines[0].startswith("aerial-runtime: unreadable frame: ")
    assert "no frame of text.jpg could be read" in lines[1] and len(lines) == 2


@pytest.mark.parametrize(
    "image",
    [
        np.full((40, 60), 99, np.uint8),
        np.full((40, 60, 4), 99, np.uint8),
        np.full((40, 60, 3), 0x9999, np.uint16),
        np.full((1, 1, 3), 9, np.uint8),
    ],
    ids=["grey", "rgba", "16 bit", "1x1"],
)
def test_unusual_images_fly(fly, tmp_path, image):
    cv2.imwrite(str(tmp_path / "frame.png"), image)
    assert fly("--camera", tmp_path / "frame.png") == (0, [])


def test_the_libraries_below_add_no_lines_of_their_own(frames, tiny_models, tmp_path, capfd):
    """libpng, libtiff and FFmpeg write to stderr themselves, past Python."""
    y, x = np.mgrid[:200, :300]
    image = np.dstack([x * 255 // 300, y * 255 // 200, (x + y) // 2]).astype(np.uint8)  # as smooth as real ones
    for name in ("a.jpg", "b.png", "c.tif", "d.bmp"):
        data = cv2.imencode(name[1:], image)[1].tobytes()
        (frames / name).write_bytes(data[: len(data) // 2] + (b"\xff\xd9" if name == "a.jpg" else b""))
    usual = ["--models", str(tiny_models), "--bind", "none", "--quiet", "--camera"]
    assert main([*usual, str(frames)]) == 0
    lines = capfd.readouterr().err.splitlines()
    assert [line.rpartition("frames/")[2][:5] for line in lines] == ["a.jpg", "b.png", "c.tif", "d.bmp"]
    (tmp_path / "v.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(500))
    # In a process of its own: FFmpeg's log level is set once, at the first video.
    script = "import sys; from aerial_runtime.daemon import main; sys.exit(main())"
    command = [sys.executable, "-c", script, *usual, str(tmp_path / "v.mp4")]
    answer = subprocess.run(command, capture_output=True, text=True)
    refused((answer.returncode, answer.stderr.splitlines()), 3, "v.mp4 holds no video")


def test_more_than_100_megapixels(fly, tmp_path, frames):
    data = bytearray((frames / "good.png").read_bytes())
    struct.pack_into(">II", data, 16, 10_001, 10_000)
    (frames / "huge.png").write_bytes(data)
    code, (line,) = fly()
    assert code == 0  # the good frame flew
    assert "huge.png has 10001x10000 pixels, more than 100 megapixels" in line


def test_video_without_frames(fly, tmp_path):
    cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48)).release()
    refused(fly("--camera", tmp_path / "v.avi"), 3, tmp_path / "v.avi")


def test_camera_missing(fly):
    refused(fly("--camera", "/dev/video77"), 4, "/dev/video77")
    refused(fly("--camera", "77"), 4, "/dev/video77")


def test_camera_that_gives_nothing(fly):
    refused(fly("--camera", "/dev/null"), 4, "/dev/null")


def test_camera_busy(fly, monkeypatch):
    def busy(*_: object) -> int:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr("aerial_runtime.camera.v4l2_device.os.open", busy)
    refused(fly("--camera", "/dev/video0"), 4, "/dev/video0 is busy")


def test_camera_kind_not_known(fly):
    refused(fly("--camera", "gopher://10.0.0.9/live"), 2, "gopher://10.0.0.9/live")


@pytest.mark.parametrize("conf", ["1.5", "-1", "nan", "high"])
def test_conf_outside_0_and_1(fly, conf):
    refused(fly("--conf", conf), 2, "--conf", conf)


def test_no_camera(capsys):
    assert main([]) == 2
    assert "no --camera is given" in capsys.readouterr().err


def test_device_absent(fly):
    refused(fly("--device", "cuda:7"), 5, "cuda:7")


def test_wrong_kind_of_model(fly, tiny_models):
    refused(fly("--segmenter", tiny_models / "classifier.onnx"), 3, "classifier.onnx is a classifier", "--classifier")
    refused(fly("--classifier", tiny_models / "segmenter.onnx"), 3, "segmenter.onnx is a segmenter", "--segmenter")


def test_model_missing_or_not_a_model_or_without_card(fly, tmp_path, kit):
    (tmp_path / "text.onnx").write_text("text")
    bare = kit.build_classifier(tmp_path / "bare.onnx", None)
    refused(fly("--segmenter", "nowhere.onnx"), 3, "nowhere.onnx")
    refused(fly("--models", tmp_path / "nowhere"), 3, tmp_path / "nowhere")
    refused(fly("--segmenter", tmp_path / "text.onnx"), 3, tmp_path / "text.onnx")
    refused(fly("--classifier", bare), 3, bare, "no model card")


def test_models_that_disagree(fly, tmp_path, kit):
    other = LabelSpace("other", (Head("kind", ("plain", "pink", "orange")),))
    card = kit.classifier_card(label_space=other)
    refused(fly("--classifier", kit.build_classifier(tmp_path / "o.onnx", card)), 3, "'tiny'", "'other'", "o.onnx")
    card = kit.classifier_card(crop_margin=1.5)
    refused(fly("--classifier", kit.build_classifier(tmp_path / "m.onnx", card)), 3, "crop margins", "1.5", "m.onnx")


def test_an_output_that_is_also_an_input(fly, frames, tmp_path, tiny_models):
    before = (tiny_models / "classifier.onnx").read_bytes()
    (tmp_path / "link").symlink_to(frames / "good.png")
    one = ["--camera", frames / "good.png", "--overwrite", "--output"]
    refused(fly(*one, frames / "good.png"), 2, "--output", "the file of --camera", frames / "good.png")
    refused(fly(*one, tmp_path / "link"), 2, "the file of --camera")
    refused(fly(*one, tiny_models / "classifier.onnx"), 2, "the file of --classifier")
    assert (tiny_models / "classifier.onnx").read_bytes() == before


@pytest.mark.parametrize("output", ["target", "kind"])
def test_nan(fly, tmp_path, kit, output):
    path = kit.build_classifier(tmp_path / "nan.onnx", kit.classifier_card(), broken=output)
    refused(fly("--classifier", path), 3, "nan.onnx", f"'{output}'", "NaN")


def test_existing_output_is_kept(fly, tmp_path, kit):
    path = tmp_path / "old.jsonl"
    path.write_text("old\n")
    refused(fly("--output", path), 2, path, "--overwrite")
    refused(fly("--output", path, "--overwrite", "--segmenter", "nowhere.onnx"), 3, "nowhere.onnx")
    refused(fly("--output", path, "--overwrite", "--camera", "nowhere.png"), 3, "nowhere.png")
    nan = kit.build_classifier(tmp_path / "nan.onnx", kit.classifier_card(), broken="kind")
    refused(fly("--output", path, "--overwrite", "--classifier", nan), 3, "NaN")
    (tmp_path / "text.png").write_text("text")
    assert fly("--output", path, "--overwrite", "--camera", tmp_path / "text.png")[0] == 3
    assert path.read_text() == "old\n"


def test_a_flight_without_a_message_leaves_no_output(fly, tmp_path):
    (tmp_path / "text.png").write_text("text")
    assert fly("--output", tmp_path / "out.jsonl", "--camera", tmp_path / "text.png")[0] == 3
    assert not (tmp_path / "out.jsonl").exists()


def test_unwritable_output(fly, tmp_path):
    refused(fly("--output", tmp_path / "no_folder" / "out.jsonl"), 5, tmp_path / "no_folder" / "out.jsonl")
    code, lines = fly("--output", "/dev/full", "--overwrite")
    assert code == 5 and len(lines) == 2  # when it happens, in flight, and at the end
    assert "/dev/full" in lines[0] and "No space left on device" in lines[0]
    assert "could not be written to the output /dev/full" in lines[1]


def test_what_cannot_even_be_looked_at_is_named(fly, tmp_path):
    """A path within a folder that is closed to the service's user; of a name that is too long root sees the same."""
    path = tmp_path / ("a" * 300)
    reason = "File name too long"
    refused(fly("--targets", path), 5, "cannot write --targets", path, reason)
    refused(fly("--models", path), 3, "cannot read the model", path, reason)
    refused(fly("--bind", f"ipc://{path}"), 5, "cannot bind to", path, "give another --bind")
    keys = ("--bind", "tcp://*:0", "--server-key", path, "--allowed-clients", tmp_path)
    refused(fly(*keys), 3, "cannot read the key", path, reason)


def test_busy_port(fly):
    with zmq.Context() as context, context.socket(zmq.PUB) as socket:
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        refused(fly("--bind", f"tcp://127.0.0.1:{port}"), 5, f"tcp://127.0.0.1:{port} is in use")


def test_bad_endpoint(fly):
    refused(fly("--bind", "localhost"), 2, "localhost")
    refused(fly("--bind", "tcp://127.0.0.1:99999"), 2, "tcp://127.0.0.1:99999", "is not an endpoint")


def test_bad_config(fly, tmp_path):
    path = tmp_path / "f.toml"
    path.write_text("cnof = 0.5\n")
    refused(fly("--config", path), 2, "'cnof'", "'conf'", path)
