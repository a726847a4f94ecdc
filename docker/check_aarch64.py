"""`make check-aarch64`: has everything that flies on a Jetson a wheel for it, and does the lock hold all of it?

pip resolves the locked files for aarch64 and the Pythons of JetPack 6 and 7, downloading nothing. Exit code 6 where a
wheel is missing, 5 where pip could not ask.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from aerial_runtime.errors import CheckError, ResourceError, run_command

REQUIREMENTS: Final = Path(__file__).with_name("requirements")
LOCKS: Final = ("flight.txt", "engines.txt")
PYTHONS: Final = ("3.10.12", "3.12.3")  # of Ubuntu 22.04 and 24.04
PLATFORMS: Final = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")
FROM_SOURCE: Final = {"pycuda"}  # built in the image, against the CUDA of its base


def main() -> int:
    """Check every Python; return the exit code."""
    return run_command("check-aarch64", _command)


def _command() -> int:
    for python in PYTHONS:
        wheels = check(python, [REQUIREMENTS / name for name in LOCKS])
        print(f"Python {python}: {len(wheels)} wheels for aarch64: {', '.join(wheels)}", flush=True)
    return 0


def check(python: str, locks: list[Path]) -> list[str]:
    """Return the names of the wheels that the locks install on a Jetson. python: its whole version.

    Raises CheckError where a wheel is missing, or the locks lack what one needs; ResourceError where pip fails
    otherwise.
    """
    environment = environment_of(python)
    lines = {}
    for lock in locks:
        for requirement, line in locked(lock):
            if requirement.marker is None or requirement.marker.evaluate(environment):
                lines[canonicalize_name(requirement.name)] = line
    wanted = [line for name, line in lines.items() if name not in FROM_SOURCE]
    wheels = [item["metadata"] for item in resolve(python, wanted)]
    for metadata in wheels:
        for text in metadata.get("requires_dist", ()):
            needed = Requirement(text)
            applies = needed.marker is None or needed.marker.evaluate(environment)
            if applies and canonicalize_name(needed.name) not in lines:
                raise CheckError(f"{metadata['name']} needs {text}, which no lock holds; run: make lock")
    return [f"{metadata['name']} {metadata['version']}" for metadata in wheels]


def environment_of(python: str) -> dict[str, str]:
    """Return what markers are judged by. pip judges them by the Python that runs it, so it is not left to pip."""
    return {
        "python_version": python.rpartition(".")[0],
        "python_full_version": python,
        "implementation_name": "cpython",
        "implementation_version": python,
        "platform_python_implementation": "CPython",
        "platform_machine": "aarch64",
        "platform_system": "Linux",
        "sys_platform": "linux",
        "os_name": "posix",
        "extra": "",
    }


def locked(lock: Path) -> Iterator[tuple[Requirement, str]]:
    """Give each requirement of a locked file, and its line for pip: with the hashes, without the marker."""
    text = lock.read_text(encoding="utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        words, *hashes = line.split(" --hash=")
        if words.strip() and not words.startswith("#"):
            requirement = Requirement(words.strip())
            pinned = f"{requirement.name}{requirement.specifier}"
            yield requirement, " --hash=".join([pinned, *(digest.strip() for digest in hashes)])


def resolve(python: str, lines: list[str]) -> list[dict[str, Any]]:
    """Return what pip would install of exactly these requirements. Raises CheckError or ResourceError."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder) / "wanted.txt"
        wanted.write_text("\n".join(lines), encoding="utf-8")
        platforms = [f"--platform={platform}_aarch64" for platform in PLATFORMS]
        words = [
            "install", "--quiet", "--dry-run", "--report=-", "--ignore-installed", "--disable-pip-version-check",
            "--only-binary=:all:", "--no-deps", "--require-hashes", f"--python-version={python}",
            "--implementation=cp", *platforms, f"--target={folder}/none", f"--requirement={wanted}",
        ]  # fmt: skip
        done = subprocess.run([sys.executable, "-m", "pip", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        errors = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR")]
        missing = [line for line in errors if line.startswith("No matching distribution")]
        if missing:
            raise CheckError(f"for aarch64 and Python {python}: {missing[0]}; pin a version that has a wheel")
        raise ResourceError(f"pip cannot resolve for aarch64 and Python {python}: {(errors or [done.stderr])[0]}")
    installed: list[dict[str, Any]] = json.loads(done.stdout)["install"]
    return installed


if __name__ == "__main__":
    sys.exit(main())
