"""What an inspection finds, gathered by kind: how grave, how often, where first."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["error", "warning", "note"]

EXAMPLES = 4  # places that are named


@dataclass
class Finding:
    """One kind of thing that was found. places: the first few; count: all."""

    severity: Severity
    what: str
    count: int = 0
    places: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """One line."""
        if not self.places:
            return f"{self.severity:<8} {self.what}"
        more = ", ..." if self.count > len(self.places) else ""
        return f"{self.severity:<8} {self.what}: {self.count} ({', '.join(self.places)}{more})"


class Findings:
    """All findings of an inspection; the same sentence again counts one more place."""

    def __init__(self) -> None:
        self._found: dict[tuple[Severity, str], Finding] = {}

    def add(self, severity: Severity, what: str, place: str = "") -> None:
        """Note what was found; place: the picture, and where in it. Without a place it concerns the whole set."""
        finding = self._found.setdefault((severity, what), Finding(severity, what))
        finding.count += 1
        if place and len(finding.places) < EXAMPLES:
            finding.places.append(place)

    def all(self) -> list[Finding]:
        """Return the findings, the gravest first."""
        order = ("error", "warning", "note")
        return sorted(self._found.values(), key=lambda finding: order.index(finding.severity))

    def number(self, severity: Severity) -> int:
        """Return how many kinds of this severity there are."""
        return sum(finding.severity == severity for finding in self._found.values())
