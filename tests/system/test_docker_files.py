"""The files of docker/ in the eyes of the tools that read them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from aerial_runtime.config import parse_config

DOCKER = Path(__file__).parents[2] / "docker"
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))


def tool(name: str) -> str:
    """Path of a tool, beside our Python or on the PATH; without it the test is skipped."""
    found = shutil.which(name, path=Path(sys.executable).parent) or shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} on this machine")
    return found


def run(*words) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda path: path.stem)
def test_dockerfiles(file):
    done = run(tool("hadolint"), "--no-color", file)
    assert done.returncode == 0, done.stdout


def test_compose_is_valid():
    done = run(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", DOCKER / "compose.yaml")
    assert done.returncode == 0, done.stdout


def test_compose_and_the_unit_fly_what_prepare_leaves_and_never_fall_back():
    service = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]["aerial"]
    assert service["command"][0] == "fly" and service["init"] and service["read_only"]
    unit = (DOCKER / "aerial.service").read_text()
    for flag in service["command"][2:]:  # all but the command itself and --config, which lies elsewhere
        assert flag.replace("=", " ") in unit
    config = parse_config([*service["command"][2:], "--camera", "demo"])
    assert config.device == "cuda:0"
    assert [config.segmenter.name, config.classifier.name] == ["segmenter.engine", "classifier.engine"]


def test_whoever_flies_may_use_the_camera_and_the_gpu():
    service = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]["aerial"]
    video, render = service["group_add"]
    assert video == "video" and render.startswith("${AERIAL_RENDER_GID:?")  # a number: the image has no such group
    assert "SupplementaryGroups=video render\n" in (DOCKER / "aerial.service").read_text()
    guide = (DOCKER.parent / "docs" / "jetson.md").read_text()
    (written,) = re.findall(r'echo "(AERIAL_RENDER_GID=.*)" > \.env', guide)
    told = run("sh", "-c", f'getent() {{ echo "$2:x:$1-104:"; }}; echo "{written}"').stdout
    assert told == "AERIAL_RENDER_GID=group-104\n" and "--groups video,render aerial" in guide


def test_the_configuration_is_one_that_the_daemon_takes():
    config = parse_config(["--config", str(DOCKER / "flight.toml")])
    assert config.wait_for_camera and config.metrics_port == 9100
    service = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]["aerial"]
    assert service["environment"] == {"AERIAL_METRICS_PORT": "${AERIAL_METRICS_PORT:-9100}"}  # for the health check
    assert 'SYMLINK+="aerial-camera"' in (DOCKER / "99-aerial-camera.rules").read_text()
    assert config.camera == "/dev/aerial-camera"


def test_the_unit(tmp_path):
    text, count = re.subn(r"/opt/aerial/bin/aerial-runtime", "/bin/true", (DOCKER / "aerial.service").read_text())
    assert count == 1
    (tmp_path / "aerial.service").write_text(text)
    done = run(tool("systemd-analyze"), "verify", "--man=no", tmp_path / "aerial.service")
    assert (done.returncode, done.stderr) == (0, "")


def test_shell_scripts_are_posix():
    for script in DOCKER.glob("*.sh"):
        done = run(tool("dash"), "-n", script)
        assert done.returncode == 0, done.stderr


def test_the_udev_rule(tmp_path):
    if run(tool("udevadm"), "verify", "--help").returncode != 0:
        pytest.skip("this udevadm cannot verify rules; systemd 254 and later can")
    done = run(tool("udevadm"), "verify", DOCKER / "99-aerial-camera.rules")
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_goes_into_an_image_is_copied_from_what_docker_is_shown():
    shown = [line[1:] for line in (DOCKER.parent / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for file in DOCKERFILES:
        for line in file.read_text().replace("\\\n", "").splitlines():
            if line.startswith("COPY ") and "--from" not in line:
                for source in line.split()[1:-1]:
                    path = source.rstrip("/")
                    assert any(Path(path).match(pattern) or pattern.startswith(f"{path}/") for pattern in shown), (
                        f"{file.name} copies {source}, which .dockerignore hides"
                    )
                    assert (DOCKER.parent / path).exists()
