"""What the machine says of itself: temperatures, clocks, memory of this process, room on the disk.

What a machine does not tell is absent, never zero.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final

EVERY_S: Final = 2.0
COLDEST_C, HOTTEST_C = -40.0, 150.0  # beyond lies what zones without power answer, such as -256
DUMMY_ZONES: Final = ("PMIC",)  # on Jetsons up to Xavier 100 °C, always
GPU_NAMES: Final = ("gpu", "gp10b", "gv11b", "ga10b")  # JetPack 6: 17000000.gpu; before it the chip's: 17000000.ga10b
MIB: Final = 1 << 20


@dataclass(frozen=True)
class Readings:
    """One look at the machine. temperatures_c: zone -> degrees Celsius; clocks_mhz: "cpu0", "gpu" -> MHz now."""

    temperatures_c: dict[str, float] = field(default_factory=dict)
    clocks_mhz: dict[str, float] = field(default_factory=dict)
    memory_mib: float | None = None
    disk_free_mib: float | None = None


class MachineWatch:
    """Looks at the machine every two seconds, in a thread of its own: a driver or a dead disk can hold up a look."""

    def __init__(self, tell: Callable[[Readings], None], output: Path | None = None) -> None:
        """Start. tell: is given each look, such as `HealthMonitor.machine`. output: see `read_machine`."""
        self._tell = tell
        self._output = output
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="machine", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while True:
            self._tell(read_machine(self._output))
            if self._stop.wait(EVERY_S):
                return

    def close(self) -> None:
        """Stop; a look that is held up is left behind."""
        self._stop.set()
        self._thread.join(timeout=0.5)

    def __enter__(self) -> MachineWatch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_machine(output: Path | None = None, *, sys: Path = Path("/sys"), proc: Path = Path("/proc")) -> Readings:
    """Look at the machine; never raises.

    output: the file whose disk must have room. sys, proc: where the kernel shows itself.
    """
    return Readings(
        temperatures_c=_temperatures_c(sys / "class/thermal"),
        clocks_mhz=_cpu_clocks_mhz(sys / "devices/system/cpu") | _gpu_clocks_mhz(sys / "class/devfreq"),
        memory_mib=_memory_mib(proc / "self/statm"),
        disk_free_mib=None if output is None else _disk_free_mib(output),
    )


def _temperatures_c(folder: Path) -> dict[str, float]:
    """Return zone -> degrees. Zones of one name, as laptops have them, get the number that the kernel gives them."""
    zones: dict[str, float] = {}
    for zone in _children(folder, "thermal_zone*"):
        name = _text(zone / "type") or zone.name
        millidegrees = _number(zone / "temp")
        if millidegrees is None or name.startswith(DUMMY_ZONES):
            continue
        celsius = millidegrees / 1000
        if COLDEST_C <= celsius <= HOTTEST_C:
            name = name.removesuffix("-thermal")
            zones[name if name not in zones else f"{name}-{zone.name}"] = celsius
    return zones


def _cpu_clocks_mhz(folder: Path) -> dict[str, float]:
    """Return "cpu0" -> MHz for the cores that are on and tell it."""
    clocks_khz = {cpu.name: _number(cpu / "cpufreq/scaling_cur_freq") for cpu in _children(folder, "cpu[0-9]*")}
    return {name: khz / 1000 for name, khz in clocks_khz.items() if khz is not None}


def _gpu_clocks_mhz(folder: Path) -> dict[str, float]:
    """Return "gpu" -> MHz of the first devfreq device that is a GPU."""
    for device in _children(folder, "*"):
        is_gpu = any(word in device.name for word in GPU_NAMES)
        hertz = _number(device / "cur_freq") if is_gpu else None
        if hertz is not None:
            return {"gpu": hertz / 1e6}
    return {}


def _memory_mib(statm: Path) -> float | None:
    """Return the memory of this process that is in RAM."""
    pages = _text(statm).split()[1:2]
    if not pages or not pages[0].isdecimal():
        return None
    return int(pages[0]) * os.sysconf("SC_PAGE_SIZE") / MIB


def _disk_free_mib(output: Path) -> float | None:
    """Return what is free to this user where the file lies, or will lie; None for a pipe or a device."""
    with suppress(OSError):
        if output.is_file():
            return shutil.disk_usage(output).free / MIB
        if not output.exists():
            return shutil.disk_usage(output.parent).free / MIB
    return None


def _children(folder: Path, pattern: str) -> list[Path]:
    """Return what lies in a folder in the order of names; nothing where there is none."""
    with suppress(OSError):
        return sorted(folder.glob(pattern))
    return []


def _number(path: Path) -> int | None:
    with suppress(ValueError):
        return int(_text(path))
    return None


def _text(path: Path) -> str:
    """Return what a file of the kernel says, empty where it says nothing."""
    try:
        with path.open("rb") as file:
            return os.read(file.fileno(), 4096).decode("ascii", "replace").strip()
    except OSError:  # absent, or of a device without power, which says "try again" for ever
        return ""
