"""What the machine says of itself: temperatures, clocks, memory of this process, room on the disk.

What a machine does not tell is absent, never zero.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Readings:
    """One look at the machine. temperatures_c: zone -> degrees Celsius; clocks_mhz: "cpu0", "gpu" -> MHz now."""

    temperatures_c: dict[str, float] = field(default_factory=dict)
    clocks_mhz: dict[str, float] = field(default_factory=dict)
    memory_mib: float | None = None
    disk_free_mib: float | None = None
