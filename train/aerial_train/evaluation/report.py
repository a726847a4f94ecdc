"""One self-contained HTML page, and the same numbers as JSON: written whole, or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined

from aerial_runtime.errors import ResourceError
from aerial_runtime.say import say
from aerial_train.evaluation.tables import Table

PAGE: Final = "report.html"
NUMBERS: Final = "scores.json"


@dataclass(frozen=True)
class Row:
    """One line below a picture; wrong ones are set in red."""

    cells: Sequence[str]
    wrong: bool = False


@dataclass(frozen=True)
class Card:
    """Pictures (caption, data URI) side by side over a name and a small table."""

    name: str
    pictures: Sequence[tuple[str, str]]
    columns: Sequence[str] = ()
    rows: Sequence[Row] = ()


@dataclass(frozen=True)
class Gallery:
    """Cards beside one another under a title."""

    title: str
    cards: Sequence[Card]


@dataclass(frozen=True)
class Section:
    """A part of the page. plots: data URIs. folded: tables that open with a click."""

    title: str
    text: str = ""
    tables: Sequence[Table] = ()
    plots: Sequence[str] = ()
    galleries: Sequence[Gallery] = ()
    folded: Sequence[Table] = ()
    folded_title: str = ""


def write_report(
    folder: Path,
    title: str,
    facts: dict[str, str],
    sections: Sequence[Section],
    numbers: Any,
    files: Mapping[str, bytes] = MappingProxyType({}),
) -> None:
    """Write report.html, scores.json and other files by name into a folder. Raises ResourceError."""
    environment = Environment(
        loader=PackageLoader("aerial_train.evaluation", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(f"{PAGE}.j2").render(title=title, facts=facts, sections=sections)
    data = msgspec.json.format(msgspec.json.encode({"provenance": facts, **numbers}), indent=1)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / NUMBERS, data + b"\n")
        for name, content in files.items():
            _write(folder / name, content)
        _write(folder / PAGE, page.encode())
    except OSError as error:
        raise ResourceError(f"cannot write the report to {folder} ({error.strerror}); choose another --out") from error
    say(f"\nwrote {folder / PAGE} ({len(page) / 1e6:.1f} MB) and {', '.join((NUMBERS, *files))}")


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
