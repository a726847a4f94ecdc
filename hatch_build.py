"""Bakes into the wheel which commit it was built from, so that the daemon can say so in flight."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FILE = "aerial_runtime/commit.txt"


class CommitHook(BuildHookInterface):
    """Writes the commit that AERIAL_COMMIT or git tells; nothing where neither does."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Put the file into the wheel. An editable install follows its sources, so no commit describes it."""
        if version == "editable":
            return
        commit = os.environ.get("AERIAL_COMMIT") or commit_of(Path(self.root))
        if commit:
            path = Path(self.directory) / "commit.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{commit}\n", encoding="ascii")
            build_data["force_include"][str(path)] = FILE

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Leave nothing but the wheel."""
        (Path(self.directory) / "commit.txt").unlink(missing_ok=True)


def commit_of(root: Path) -> str:
    """Return the first 12 digits of the commit of a clone, with ".dirty" where files differ from it; or nothing."""
    if not (root / ".git").exists():  # not a repository further up, which is another project's
        return ""
    words = ["git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=.dirty"]
    try:
        done = subprocess.run(words, cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
