"""What an inspection says: lines for the terminal, and one HTML file with everything in it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import cv2
import jinja2

from aerial_runtime.errors import ResourceError, UsageError
from aerial_train.data.examine import Examination
from aerial_train.sheet import Tile

PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title><style>
body { font: 14px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 72em; padding: 0 1em }
h2 { margin-top: 1.6em } td, th { text-align: left; padding: .1em 1em .1em 0; vertical-align: top }
.error { color: #b00020; font-weight: 600 } .warning { color: #8a5a00 } .note { color: #555 }
figure { display: inline-block; margin: 0 .5em .8em 0; vertical-align: top } figcaption { font-size: 11px }
.bar { background: #3b6ea5; display: inline-block; height: .8em } .count { color: #555 }
img { image-rendering: pixelated }
</style></head><body>
<h1>{{ title }}</h1>
<p>{% for fact in facts %}{{ fact }}<br>{% endfor %}</p>
<h2>Findings</h2>
{% if not findings %}<p>None.</p>{% endif %}
<table>{% for finding in findings %}
<tr><td class="{{ finding.severity }}">{{ finding.severity }}</td><td>{{ finding.what }}</td>
<td>{{ finding.count }}</td><td>{{ finding.places | join(', ') }}</td></tr>{% endfor %}</table>
<h2>Targets</h2>
{% for name, counts in tables.items() %}{% set most = counts.values() | max %}<h3>{{ name }}</h3>
<table>{% for word, count in counts.items() %}<tr><td>{{ word }}</td><td><span class="bar"
 style="width: {{ (240 * count / most) | round if most else 0 }}px"></span> <span class="count">{{ count }}</span></td>
</tr>{% endfor %}</table>{% endfor %}
<h2>Pictures</h2>
{% for tile in tiles %}<figure><img src="data:image/png;base64,{{ tile.png }}" alt="">
<figcaption>{{ tile.lines | join(' ') }}</figcaption></figure>{% endfor %}
</body></html>
"""


def check_sheet_path(path: Path) -> None:
    """Raise UsageError where the ending is none that can be written, ResourceError where the folder is missing."""
    if path.suffix.lower() not in (".png", ".html"):
        raise UsageError(f"--sheet must end in .png or .html, is {path}")
    if not path.parent.is_dir():
        raise ResourceError(f"the folder of --sheet {path} does not exist; make it first")


def report_lines(title: str, done: Examination) -> list[str]:
    """Return the lines for the terminal."""
    found = done.statistics.result()
    lines = [f"{title}: {done.facts[0]}", *(f"  {fact}" for fact in done.facts[1:])]
    if found["pictures"]:  # not where none can be read
        share = found["share_without_target"]
        lines.append(f"  {found['targets']} targets; {100 * share:.0f} % of the pictures without one")
    percentiles = found["size_px"]["percentiles"]
    if percentiles:
        lines.append("  size in px: " + ", ".join(f"{p} % {value}" for p, value in percentiles.items()))
    lines.append("  mean colour, blue green red: " + " ".join(f"{value:.0f}" for value in found["mean_bgr"]))
    for head, counts in found["classes"].items():
        lines.append(f"  {head}: " + ", ".join(f"{word} {count}" for word, count in counts.items() if count))
    lines += [str(finding) for finding in done.findings.all()]
    numbers = [(done.findings.number(severity), severity) for severity in ("error", "warning", "note")]
    total = ", ".join(f"{number} {word}{'s' if number > 1 else ''}" for number, word in numbers if number)
    return [*lines, total or "nothing to complain of"]


def write_html(path: Path, title: str, done: Examination, tiles: Sequence[Tile]) -> None:
    """Write one file that needs no other. Raises ResourceError."""
    found = done.statistics.result()
    tables: dict[str, dict[str, int]] = {"size in pixels": found["size_px"]["histogram"], **found["classes"]}
    if "targets_per_frame" in found:
        tables["targets a frame"] = found["targets_per_frame"]
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    page = environment.from_string(PAGE).render(
        title=title,
        facts=done.facts,
        findings=done.findings.all(),
        tables={name: counts for name, counts in tables.items() if counts},
        tiles=[_inline(tile) for tile in tiles],
    )
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ResourceError(f"cannot write {path} ({error.strerror}); is the disk full?") from error


def _inline(tile: Tile) -> dict[str, Any]:
    _, data = cv2.imencode(".png", tile.image_bgr)
    return {"png": base64.b64encode(data.tobytes()).decode(), "lines": tile.lines}
