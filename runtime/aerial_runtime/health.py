"""How the daemon is: everybody tells the monitor, and its snapshot is what `aerial.health/1` publishes."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from aerial_runtime import BUILD
from aerial_runtime.contract import F32, Health, HealthReason, Percentiles
from aerial_runtime.log import note, warn
from aerial_runtime.machine import Readings
from aerial_runtime.say import utf8

STALLED_S: Final = 5.0  # the main loop waits half a second at most, a frame takes less than one
JUMP_S: Final = 1.0  # NTP slews by half a millisecond a second; more than this at once is a step
JUMP_SHOWN_S: Final = 10.0
HOT_C, COOL_C = 95.0, 90.0  # chosen, not measured; once hot, it stays so until it is cool
DISK_LOW_MIB: Final = 500.0  # over half an hour of messages with twenty targets at 30 frames/s
READINGS_OLD_S: Final = 10.0  # older ones say nothing of now
PERCENTILES_OVER_S, RATE_OVER_S = 60.0, 10.0
LAST_FRAMES: Final = 6000  # a minute at 100 frames/s: bounds the memory
COUNTS: Final = ("dropped", "unreadable", "failed", "unsent", "unwritten", "unrecorded")
STAGES: Final = ("segment", "classify", "total")


class HealthMonitor:
    """Counts, times and reasons of a flight. For every thread; no method waits for more than a line of the log.

    The state is "degraded" while it is running and there is any reason.
    """

    def __init__(
        self,
        source: str,
        *,
        utc_ns: Callable[[], int] = time.time_ns,
        mono_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """source: stands in every message, until it is `named` otherwise. utc_ns, mono_ns: the clocks."""
        self._source = utf8(source)
        self._utc_ns, self._mono_ns = utc_ns, mono_ns
        self._lock = threading.Lock()
        self._state: Literal["starting", "running", "stopping"] = "starting"
        self._reasons: dict[str, HealthReason] = {}
        self._news = deque[tuple[str, str | None]]()  # reasons that came (text) and went (None), not logged yet
        self._counts: dict[str, Any] = dict.fromkeys(COUNTS, 0)
        self._provider, self._models = "", dict[str, str]()
        self._readings, self._read_ns = Readings(), mono_ns()
        self._start_ns = self._running_ns = self._turn_ns = mono_ns()
        self._offset_ns = utc_ns() - mono_ns()
        self._jump_ns: int | None = None
        self._listeners: list[Callable[[str, str | None], None]] = []
        self._sequence = self._frames = 0
        # Rings over the last frames: when each ended (monotonic), and its age, segment, classify, total in ms.
        self._ended_ns = np.zeros(LAST_FRAMES, np.int64)
        self._times_ms: F32 = np.zeros((LAST_FRAMES, 1 + len(STAGES)), np.float32)

    def named(self, source: str) -> None:
        """Tell the name of the source, which is known only once it is open."""
        with self._lock:
            self._source = utf8(source)

    def loaded(self, provider: str, models: dict[str, str]) -> None:
        """Tell what computes. models: role -> "sha256:..." of the file loaded."""
        with self._lock:
            self._provider, self._models = provider, dict(models)

    def state_is(self, state: Literal["starting", "running", "stopping"]) -> None:
        """Tell how far the flight is."""
        with self._lock:
            self._state = state
            if state == "running":
                self._running_ns = self._turn_ns = self._mono_ns()

    def turn(self) -> None:
        """Tell that the main loop has turned: a frame is done, or a bounded wait for one has returned."""
        with self._lock:
            self._turn_ns = self._mono_ns()

    def frame(self, age_ms: float, segment_ms: float, classify_ms: float, total_ms: float) -> None:
        """Count a frame that was published. Milliseconds, as in `TimingMs`."""
        with self._lock:
            row = self._frames % LAST_FRAMES
            self._ended_ns[row] = self._mono_ns()
            self._times_ms[row] = (age_ms, segment_ms, classify_ms, total_ms)
            self._frames += 1

    def count(self, **numbers: int) -> None:
        """Set numbers since the start, by the names that `Health` has: those of COUNTS.

        Raises ValueError for another name.
        """
        with self._lock:
            unknown = numbers.keys() - self._counts.keys()
            if unknown:
                raise ValueError(f"health does not count {sorted(unknown)}; it counts {list(self._counts)}")
            self._counts.update(numbers)

    def reason(self, code: str, text: str | None) -> None:
        """Give a reason to be degraded, or take it back with None. One that stays keeps its `since_utc_ns`.

        code: for programs, such as "camera-lost"; text: for people, what is wrong and what to do.
        """
        with self._lock:
            self._reason(code, text)
        self._log_news()

    def listen(self, call: Callable[[str, str | None], None]) -> None:
        """Have `call` told of each reason that comes (code, text) or goes (code, None).

        It is called in any thread, and must not wait.
        """
        self._listeners.append(call)

    def machine(self, readings: Readings) -> None:
        """Take a look at the machine; sets and clears `hot` and `disk-low`."""
        with self._lock:
            self._readings, self._read_ns = readings, self._mono_ns()
            self._reason("hot", _hot(readings, "hot" in self._reasons))
            self._reason("disk-low", _disk_low(readings))
        self._log_news()

    def snapshot(self) -> Health:
        """Return how the daemon is, with the next sequence number: for the one who publishes it."""
        return self._health(1)

    def look(self) -> Health:
        """Return the same without taking a sequence number: for everybody else."""
        return self._health(0)

    def _health(self, step: int) -> Health:
        with self._lock:
            now_ns, utc_ns = self._mono_ns(), self._utc_ns()
            self._judge_loop(now_ns, utc_ns)
            self._judge_clock(now_ns, utc_ns)
            times_ms = self._times_ms[: self._frames][self._ended_since(now_ns, PERCENTILES_OVER_S)]  # a copy
            health = Health(
                source=self._source,
                sequence=self._sequence,
                sent_utc_ns=utc_ns,
                sent_mono_ns=now_ns,
                version=BUILD,
                state="degraded" if self._state == "running" and self._reasons else self._state,
                reasons=list(self._reasons.values()),
                uptime_s=round((now_ns - self._start_ns) / 1e9, 3),
                frames=self._frames,
                frame_rate=self._frame_rate(now_ns),
                **self._counts,
                provider=self._provider,
                models=self._models,
                stage_ms={},
                **self._fresh_readings(now_ns),
            )
            self._sequence += step
        self._log_news()
        return _with_times(health, times_ms)  # not under the lock: sorting takes a while, and frames do not wait for it

    def _judge_loop(self, now_ns: int, utc_ns: int) -> None:
        still_ns = now_ns - self._turn_ns
        is_stalled = self._state == "running" and still_ns > STALLED_S * 1e9
        text = f"the main loop has not turned for {still_ns / 1e9:.0f} s; the service restarts it if it stays so"
        self._reason("loop-stalled", text if is_stalled else None, utc_ns - still_ns)

    def _judge_clock(self, now_ns: int, utc_ns: int) -> None:
        offset_ns = utc_ns - now_ns
        moved_s = (offset_ns - self._offset_ns) / 1e9
        self._offset_ns = offset_ns
        if abs(moved_s) > JUMP_S:
            self._jump_ns = now_ns
            text = f"UTC was set by {moved_s:+.1f} s; utc_ns before and after do not compare, mono_ns do"
            self._reason("clock-jump", None)  # a second jump is a reason of its own
            self._reason("clock-jump", text, utc_ns)
        elif self._jump_ns is not None and now_ns - self._jump_ns > JUMP_SHOWN_S * 1e9:
            self._jump_ns = None
            self._reason("clock-jump", None)

    def _reason(self, code: str, text: str | None, since_utc_ns: int | None = None) -> None:
        if text is None:
            if self._reasons.pop(code, None) is not None:
                self._news.append((code, None))
            return
        text = utf8(text)  # here, for those that listen write JSON too
        before = self._reasons.get(code)
        if before is not None:
            since_utc_ns = before.since_utc_ns
        else:
            self._news.append((code, text))
        self._reasons[code] = HealthReason(code, text, self._utc_ns() if since_utc_ns is None else since_utc_ns)

    def _log_news(self) -> None:
        """Log the reasons that came and went: not under the lock, for a log may be slow."""
        with suppress(IndexError):  # empty; another thread may have taken the last one
            while True:
                code, text = self._news.popleft()
                for call in self._listeners:
                    call(code, text)
                if text is None:
                    note(f"{code} over", f"{code} is over")
                else:
                    warn(code, f"{code}: {text}")

    def _ended_since(self, now_ns: int, seconds: float) -> npt.NDArray[np.bool_]:
        """Return which rows are of frames that ended in the last so many seconds."""
        return self._ended_ns[: self._frames] >= now_ns - seconds * 1e9

    def _frame_rate(self, now_ns: int) -> float:
        """Return frames a second over the last ten, or since it is running, or as far back as the rows reach."""
        if not self._frames:
            return 0.0
        over_s = min(RATE_OVER_S, (now_ns - self._running_ns) / 1e9)
        if self._frames > LAST_FRAMES:
            over_s = min(over_s, (now_ns - int(self._ended_ns.min())) / 1e9)
        return round(int(self._ended_since(now_ns, RATE_OVER_S).sum()) / max(over_s, 1.0), 3)

    def _fresh_readings(self, now_ns: int) -> dict[str, Any]:
        """Return the fields of `Health` that the machine told lately."""
        if now_ns - self._read_ns > READINGS_OLD_S * 1e9:
            return {}
        fields = {
            "temperatures_c": self._readings.temperatures_c,
            "clocks_mhz": self._readings.clocks_mhz,
            "memory_mib": self._readings.memory_mib,
            "disk_free_mib": self._readings.disk_free_mib,
        }
        return {name: value for name, value in fields.items() if value is not None and value != {}}


def _with_times(health: Health, times_ms: F32) -> Health:
    """Add the medians and percentiles. times_ms: float32 [N, 4], age and the stages of each frame."""
    if not len(times_ms):
        return health
    medians_ms = np.median(times_ms[:, 1:], axis=0)
    p50, p95, p99 = np.percentile(times_ms[:, 0], (50, 95, 99))
    return msgspec.structs.replace(
        health,
        stage_ms={stage: round(float(ms), 3) for stage, ms in zip(STAGES, medians_ms, strict=True)},
        age_ms=Percentiles(round(float(p50), 3), round(float(p95), 3), round(float(p99), 3)),
    )


def _hot(readings: Readings, is_hot: bool) -> str | None:
    """Return why the machine is too hot, or None. is_hot: so far."""
    if not readings.temperatures_c:
        return None
    zone, celsius = max(readings.temperatures_c.items(), key=lambda item: item[1])
    if celsius < (COOL_C if is_hot else HOT_C):
        return None
    return f"{zone} is at {celsius:.0f} °C, so the machine slows down; give it air, or a lower power mode"


def _disk_low(readings: Readings) -> str | None:
    free_mib = readings.disk_free_mib
    if free_mib is None or free_mib >= DISK_LOW_MIB:
        return None
    return f"{free_mib:.0f} MiB are left on the disk of --output or --record; make room"
