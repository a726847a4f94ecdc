"""What the documents name is in the repository."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
ROOMS = "train|export|runtime|docs|docker|tests"
PATHS = re.compile(rf"(?:\]\(|`|\s)((?:{ROOMS})/[\w./-]*\w)")
WRITTEN_BY_USERS = {"docker/.env"}
LINKS = re.compile(r"\]\(([\w./-]+)(?:#[\w-]+)?\)")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_paths_and_links_lead_somewhere(document):
    text = document.read_text(encoding="utf-8")
    missing = [name for name in LINKS.findall(text) if not (document.parent / name).exists()]
    missing += [n for n in PATHS.findall(text) if n not in WRITTEN_BY_USERS and not (ROOT / n).exists()]
    assert not missing


def test_no_file_that_is_named_is_ignored():
    """A path may exist here and still never reach anybody else."""
    named = {name for document in DOCUMENTS for name in PATHS.findall(document.read_text(encoding="utf-8"))}
    found = sorted(str(path) for name in named for path in (ROOT / name).rglob("*.pt"))
    result = subprocess.run(["git", "-C", str(ROOT), "check-ignore", *found, "none.pt"], capture_output=True, text=True)
    if result.returncode == 128:
        pytest.skip("outside a git checkout")
    assert result.stdout.split() == ["none.pt"], "kept out by .gitignore"


def codes_of_health(document, heading):
    """Return the codes in the first column of the table below a heading."""
    table = (ROOT / "docs" / document).read_text(encoding="utf-8").partition(heading)[2].partition("\n\n")[0]
    return {code for row in table.splitlines()[2:] for code in re.findall(r"`([\w-]+)`", row.split("|")[1])}


def test_both_tables_tell_the_same_reasons_of_the_health():
    told = codes_of_health("protocol.md", "| reason | what it says")
    assert "output-failed" in told and told == codes_of_health("runtime.md", "| code | what it means")
