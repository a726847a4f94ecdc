"""`make test-image`: the flight image, built from a clean clone and flown, on a machine without Docker.

buildah builds it in its chroot isolation on a stand-in for debian:bookworm-slim that debootstrap makes; then it flies
in namespaces of its own: no network but its own loopback, a read-only root, the image's user and commands.
Needs root, buildah, debootstrap and Debian's and Python's package indexes. Exit code 0, or 1 with what is wrong.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SUITE, BASE, IMAGE = "bookworm", "localhost/aerial-test-base", "localhost/aerial-test"
# As in debian:bookworm-slim: what nobody reads in a container is not installed.
EXCLUDED = [f"/usr/share/{name}" for name in ("doc", "groff", "info", "linda", "lintian", "locale", "man")]
HOST_CA = Path("/etc/ssl/certs/ca-certificates.crt")
UID, VIDEO = 10001, 44
RECORDED = "/var/lib/aerial/recordings/demo"
LIMIT_MB = 520  # of the whole image on a slim base
STOP_S = 5.0
START_S = 60.0
READ_ONLY = """
set -eu
ip link set lo up
mount --make-rprivate /
mount --bind "$ROOT" "$ROOT"
mount --bind "$RECORDINGS" "$ROOT/var/lib/aerial/recordings"
mount -o remount,ro,bind "$ROOT"
mount -t proc proc "$ROOT/proc"
mount -t tmpfs tmpfs "$ROOT/tmp"
mount --rbind /dev "$ROOT/dev"
exec chroot "$ROOT" setpriv --reuid="$USER_ID" --regid="$USER_ID" --groups="$VIDEO" --no-new-privs \\
    --bounding-set=-all env -i "$@"
"""


def main() -> int:
    """Build, look, fly; print what was found."""
    missing = [name for name in ("buildah", "debootstrap", "git", "ip") if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        print(f"test-image needs root and {', '.join(missing or ['buildah', 'debootstrap'])}; apt install them")
        return 1
    with tempfile.TemporaryDirectory(prefix="aerial-image.") as folder:
        clone = Path(folder) / "clone"
        run("git", "clone", "--quiet", "--no-hardlinks", ROOT, clone)
        commit = run("git", "-C", clone, "rev-parse", "--short=12", "HEAD").strip()
        if not run("buildah", "images", "--quiet", "--filter", f"reference={BASE}").strip():
            make_base(Path(folder))
        print(f"building the image of {commit}: minutes", flush=True)
        run(
            "buildah", "bud", "--layers", "--format", "docker", "--build-arg", f"BASE={BASE}", "--build-arg",
            f"COMMIT={commit}", "--file", clone / "docker/runtime.Dockerfile", "--tag", IMAGE, clone,
        )  # fmt: skip
        config = json.loads(run("buildah", "inspect", "--type", "image", IMAGE))["Docker"]["config"]
        with mounted(BASE) as base, mounted(IMAGE) as root:
            checks = Checks(root, config, commit, Path(folder) / "recordings")
            for check in (
                checks.config_is_right, checks.parts_are_there, checks.demo_flies, checks.recording_flies_again,
                checks.a_service_stops,
            ):  # fmt: skip
                check()
                print(f"ok: {check.__doc__}", flush=True)
            whole, below = size_mb(root), size_mb(base)
    print(f"size: {whole:.0f} MB; {below:.0f} of them the base, {whole - below:.0f} above it")
    if whole > LIMIT_MB:
        print(f"error: the image is larger than {LIMIT_MB} MB")
        return 1
    return 0


def make_base(folder: Path) -> None:
    """Make the stand-in for debian:bookworm-slim, which trusts whom this machine trusts."""
    print("making the base by debootstrap: a minute", flush=True)
    root = folder / "base"
    run("debootstrap", "--variant=minbase", "--include=ca-certificates", SUITE, root)
    for name in EXCLUDED:
        shutil.rmtree(root / name.lstrip("/"), ignore_errors=True)
    rules = "".join(f"path-exclude {name}/*\n" for name in EXCLUDED)
    (root / "etc/dpkg/dpkg.cfg.d/docker").write_text(rules)
    for place in ("var/cache/apt", "var/lib/apt/lists"):
        shutil.rmtree(root / place)
        (root / place).mkdir()
    shutil.copy(HOST_CA, root / "etc/ssl/certs/ca-certificates.crt")
    (root / "etc/pip.conf").write_text(f"[global]\ncert = {HOST_CA}\n")
    container = run("buildah", "from", "scratch").strip()
    run("buildah", "add", "--quiet", container, root, "/")
    run("buildah", "commit", "--quiet", "--rm", "--format", "docker", container, BASE)


@contextmanager
def mounted(image: str) -> Iterator[Path]:
    """Give the folder that holds the files of an image."""
    container = run("buildah", "from", "--pull-never", image).strip()
    try:
        yield Path(run("buildah", "mount", container).strip())
    finally:
        run("buildah", "rm", container)


class Checks:
    """What must hold of an image. root: its files. config: what it says of itself. recordings: its volume."""

    def __init__(self, root: Path, config: dict[str, Any], commit: str, recordings: Path) -> None:
        """Make the volume, which belongs to the image's user."""
        self._root, self._config, self._commit, self._recordings = root, config, commit, recordings
        recordings.mkdir()
        os.chown(recordings, UID, UID)

    def config_is_right(self) -> None:
        """its user is none who may all, it tells its health, its commit stands on it"""
        require(self._config["User"] == str(UID), self._config["User"])
        require(self._config["Healthcheck"]["Test"][0] == "CMD", self._config["Healthcheck"])
        revision = self._config["Labels"]["org.opencontainers.image.revision"]
        require(revision == self._commit, revision)

    def parts_are_there(self) -> None:
        """the bill of materials is whole, the program knows its commit, nothing can be written, no pip is left"""
        parts = json.loads((self._root / "opt/aerial/sbom.cdx.json").read_text())["components"]
        names = {part["name"] for part in parts}
        wanted = {"aerial", "numpy", "onnxruntime", "opencv-python-headless", "pyzmq", "msgspec"}
        require(wanted <= names and not {"torch", "pip"} & names, names)
        said = self._inside("aerial-runtime", "--version")
        require(said.strip().endswith(f"+{self._commit}"), said)
        require(self._inside("id", "-u", "-n").strip() == "aerial" and "video" in self._inside("id", "-G", "-n"), "id")
        self._inside("/bin/sh", "-c", "! touch /opt/x /var/lib/aerial/x /etc/x 2>/dev/null")
        require(not list(self._root.glob("opt/aerial/lib/python3*/site-packages/pip")), "pip")

    def demo_flies(self) -> None:
        """the demo flight ends with 0 and finds the targets, without a network"""
        said = self._inside("fly", "--camera", "demo", "--quiet", "--record", f"{RECORDED}.mcap", timeout_s=300)
        (recording,) = self._recordings.glob("*.jsonl")
        rows = [json.loads(line) for line in recording.read_text().splitlines()]
        found = sum(len(row["targets"]) for row in rows)
        require(len(rows) == 24 and found > 50 and "recall" in said, said)
        print(said.strip())

    def recording_flies_again(self) -> None:
        """the demo's recording is read again, and flies to the same targets"""
        again = ["--camera", f"replay:{RECORDED}.mcap", "--output", f"{RECORDED}.again.jsonl", "--bind", "none"]
        self._inside("aerial-runtime", *again, "--quiet", timeout_s=300)
        self._inside("aerial-diff", f"{RECORDED}.mcap", f"{RECORDED}.again.jsonl")  # 6 where anything differs

    def a_service_stops(self) -> None:
        """a live GStreamer pipeline flies, HEALTHCHECK's command finds it well, SIGTERM ends it with 0"""
        camera = "videotestsrc is-live=true ! video/x-raw,width=640,height=480,framerate=10/1"
        words = ["fly", "--camera", camera, "--frozen-s", "0", "--metrics-port", "9100", "--quiet"]
        with subprocess.Popen(self._words(words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              env=self._environment()) as flight:  # fmt: skip
            try:
                daemon = wait_for(lambda: descendant(flight.pid, "aerial-runtime"), "the daemon", flight)
                check = self._config["Healthcheck"]["Test"][1:]
                wait_for(lambda: self._beside(daemon, check) == 0, "HEALTHCHECK to pass", flight)
                time.sleep(2)
                stopped = time.monotonic()
                os.kill(daemon, signal.SIGTERM)
                said, _ = flight.communicate(timeout=STOP_S)
                print(f"stopped within {time.monotonic() - stopped:.1f} s")
            except BaseException:
                flight.kill()
                raise
        require(flight.returncode == 0 and "0 unreadable" in said, f"{flight.returncode}: {said}")

    def _inside(self, *words: str, timeout_s: float = 60) -> str:
        """Run the image's entry point with other words than its own; return what it printed."""
        done = subprocess.run(self._words(list(words)), capture_output=True, text=True, timeout=timeout_s, check=False,
                              env=self._environment())  # fmt: skip
        require(done.returncode == 0, f"{words} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def _words(self, words: list[str]) -> list[str]:
        """Return the whole command: namespaces, the read-only root, the image's user, environment and entry point."""
        unshare = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child"]
        return [*unshare, "sh", "-c", READ_ONLY, "sh", *self._config["Env"], *self._config["Entrypoint"], *words]

    def _environment(self) -> dict[str, str]:
        place = {"ROOT": str(self._root), "RECORDINGS": str(self._recordings)}
        return {**os.environ, **place, "USER_ID": str(UID), "VIDEO": str(VIDEO)}

    def _beside(self, daemon: int, words: list[str]) -> int:
        """Run a command in the container of a daemon, as Docker runs HEALTHCHECK; return its exit code."""
        enter = ["nsenter", f"--target={daemon}", "--mount", "--net", "--pid"]
        user = ["chroot", f"--userspec={UID}:{UID}", f"--groups={VIDEO}", str(self._root), "env", "-i"]
        return subprocess.run(
            [*enter, *user, *self._config["Env"], *words], check=False, capture_output=True
        ).returncode


def descendant(pid: int, name: str) -> int | None:
    """Return the pid of a process under `pid` that runs a program of that name."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        if f"/{name}\0" in Path(f"/proc/{child}/cmdline").read_text():
            return int(child)
        found = descendant(int(child), name)
        if found:
            return found
    return None


def wait_for(condition: Callable[[], Any], what: str, process: subprocess.Popen[str]) -> Any:
    """Return what the condition gives once that is true."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        require(process.poll() is None, f"ended while waiting for {what}")
        found = condition()
        if found:
            return found
        time.sleep(0.3)
    raise SystemExit(f"error: waited {START_S:.0f} s for {what}")


def require(holds: bool, what: object) -> None:
    """End where something does not hold."""
    if not holds:
        raise SystemExit(f"error: {what}")


def size_mb(root: Path) -> float:
    """Return what the files of a folder take on a disk, in MB, as `docker images` counts."""
    return int(run("du", "-sx", "--apparent-size", "--block-size=1", root).split()[0]) / 1e6


def run(*words: str | Path) -> str:
    """Run a command to its end; return what it printed, or end with what it said."""
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False,
                          env={**os.environ, "BUILDAH_ISOLATION": "chroot"})  # fmt: skip
    if done.returncode != 0:
        raise SystemExit(f"error: {words[0]} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
