"""What the monitor makes of what it is told, with clocks that the tests set."""

from __future__ import annotations

import json
import threading
import time

import msgspec
import pytest

from aerial_runtime.contract import Health
from aerial_runtime.health import COOL_C, DISK_LOW_MIB, HOT_C, LAST_FRAMES, HealthMonitor
from aerial_runtime.machine import Readings

S = 1_000_000_000


class Clocks:
    """A monotonic clock that `wait` moves, and a UTC clock beside it that `utc_offset_ns` moves."""

    def __init__(self):
        self.now_ns = 5 * S
        self.utc_offset_ns = 1_700_000_000 * S

    def mono_ns(self):
        return self.now_ns

    def utc_ns(self):
        return self.now_ns + self.utc_offset_ns

    def wait(self, seconds):
        self.now_ns += round(seconds * S)


@pytest.fixture
def clocks():
    return Clocks()


@pytest.fixture
def monitor(clocks):
    return HealthMonitor("cam0", utc_ns=clocks.utc_ns, mono_ns=clocks.mono_ns)


def codes(health):
    return [reason.code for reason in health.reasons]


def test_the_state_is_degraded_while_it_runs_with_a_reason(monitor):
    assert monitor.snapshot().state == "starting"
    monitor.reason("camera-lost", "no frame for 2 s; check the cable")
    assert monitor.snapshot().state == "starting"
    monitor.state_is("running")
    assert monitor.snapshot().state == "degraded"
    monitor.reason("camera-lost", None)
    monitor.reason("camera-lost", None)
    assert monitor.snapshot().state == "running"
    monitor.reason("disk-full", "the disk is full")
    monitor.state_is("stopping")
    health = monitor.snapshot()
    assert health.state == "stopping" and codes(health) == ["disk-full"]


def test_a_reason_keeps_its_beginning_while_its_text_changes(monitor, clocks):
    first_ns = clocks.utc_ns()
    monitor.reason("camera-lost", "tried once")
    clocks.wait(3)
    monitor.reason("camera-lost", "tried twice")
    (reason,) = monitor.snapshot().reasons
    assert (reason.text, reason.since_utc_ns) == ("tried twice", first_ns)
    monitor.reason("camera-lost", None)
    clocks.wait(3)
    monitor.reason("camera-lost", "gone again")
    (reason,) = monitor.snapshot().reasons
    assert reason.since_utc_ns == first_ns + 6 * S


def test_sequence_numbers_rise_by_one_a_snapshot_whoever_looks_between(monitor):
    assert [monitor.snapshot().sequence for _ in range(2)] == [0, 1]
    assert monitor.look().sequence == monitor.look().sequence == 2
    assert monitor.snapshot().sequence == 2


def test_counts_are_absolute_and_stay(monitor):
    monitor.count(dropped=3, unreadable=1)
    monitor.count(dropped=7, failed=2, unsent=4, unwritten=5)
    health = monitor.snapshot()
    numbers = (health.dropped, health.unreadable, health.failed, health.unsent, health.unwritten)
    assert numbers == (7, 1, 2, 4, 5)
    with pytest.raises(ValueError, match="dorpped"):
        monitor.count(dorpped=1)


def test_times_are_those_of_the_last_minute(monitor, clocks):
    assert monitor.snapshot().age_ms is msgspec.UNSET and monitor.snapshot().stage_ms == {}
    monitor.state_is("running")
    for _ in range(100):
        monitor.frame(age_ms=500.0, segment_ms=400.0, classify_ms=50.0, total_ms=450.0)
    clocks.wait(61)
    for age_ms in range(1, 102):
        monitor.frame(age_ms=age_ms, segment_ms=40.0, classify_ms=5.0, total_ms=46.0)
    health = monitor.snapshot()
    assert health.frames == 201
    assert (health.age_ms.p50, health.age_ms.p95, health.age_ms.p99) == (51.0, 96.0, 100.0)
    assert health.stage_ms == {"segment": 40.0, "classify": 5.0, "total": 46.0}
    clocks.wait(61)
    assert monitor.snapshot().age_ms is msgspec.UNSET and monitor.snapshot().frame_rate == 0


def test_the_frame_rate_is_over_ten_seconds_or_since_it_runs(monitor, clocks):
    clocks.wait(100)
    monitor.state_is("running")
    for _ in range(20):
        clocks.wait(0.1)
        monitor.frame(1, 1, 1, 1)
    assert monitor.snapshot().frame_rate == 10
    for _ in range(400):
        clocks.wait(0.05)
        monitor.frame(1, 1, 1, 1)
    assert monitor.snapshot().frame_rate == pytest.approx(20, abs=0.2)


def test_more_frames_than_fit_keep_rate_and_memory(monitor, clocks):
    monitor.state_is("running")
    clocks.wait(5)
    for _ in range(2 * LAST_FRAMES + 10):
        clocks.wait(0.001)
        monitor.frame(2.0, 1, 1, 1)
    health = monitor.snapshot()
    assert health.frames == 2 * LAST_FRAMES + 10
    assert health.frame_rate == pytest.approx(1000, rel=0.01)
    assert health.age_ms.p99 == 2


def test_a_loop_that_does_not_turn_is_told(monitor, clocks):
    clocks.wait(60)
    assert codes(monitor.snapshot()) == []  # models may load for long
    monitor.state_is("running")
    clocks.wait(4)
    monitor.turn()
    last_turn_ns = clocks.utc_ns()
    clocks.wait(4.9)
    assert codes(monitor.snapshot()) == []
    clocks.wait(0.2)
    health = monitor.snapshot()
    assert codes(health) == ["loop-stalled"] and health.state == "degraded"
    assert health.reasons[0].since_utc_ns == last_turn_ns
    clocks.wait(5)
    assert "10 s" in monitor.snapshot().reasons[0].text
    monitor.turn()
    assert codes(monitor.snapshot()) == []
    clocks.wait(9)
    monitor.state_is("stopping")
    assert codes(monitor.snapshot()) == []


@pytest.mark.parametrize("jump_s", [3600, -1.5])
def test_a_clock_that_was_set_is_told_for_ten_seconds(monitor, clocks, jump_s):
    monitor.state_is("running")
    monitor.snapshot()
    clocks.utc_offset_ns += round(jump_s * S)
    clocks.wait(1)
    (reason,) = monitor.snapshot().reasons
    assert reason.code == "clock-jump" and f"{jump_s:+.1f} s" in reason.text
    assert reason.since_utc_ns == clocks.utc_ns()
    for _ in range(9):
        clocks.wait(1)
        monitor.turn()
        assert codes(monitor.snapshot()) == ["clock-jump"]
    clocks.wait(1.5)
    monitor.turn()
    assert monitor.snapshot().state == "running"


def test_a_clock_that_is_slewed_or_late_is_no_jump(monitor, clocks):
    for _ in range(10):
        clocks.utc_offset_ns += S // 2
        clocks.wait(100)
        assert codes(monitor.snapshot()) == []


def test_hot_until_it_is_cool_again(monitor):
    monitor.machine(Readings(temperatures_c={"cpu": HOT_C - 1, "gpu": 40.0}))
    assert codes(monitor.snapshot()) == []
    monitor.machine(Readings(temperatures_c={"cpu": HOT_C, "gpu": 40.0}))
    (reason,) = monitor.snapshot().reasons
    assert reason.code == "hot" and reason.text.startswith("cpu is at 95 °C")
    monitor.machine(Readings(temperatures_c={"cpu": HOT_C - 1, "gpu": 40.0}))
    assert codes(monitor.snapshot()) == ["hot"]
    monitor.machine(Readings(temperatures_c={"cpu": COOL_C - 1, "gpu": 40.0}))
    assert codes(monitor.snapshot()) == []


def test_little_room_on_the_disk(monitor):
    monitor.machine(Readings(disk_free_mib=DISK_LOW_MIB - 1))
    (reason,) = monitor.snapshot().reasons
    assert reason.code == "disk-low" and "499 MiB" in reason.text
    monitor.machine(Readings(disk_free_mib=DISK_LOW_MIB))
    assert codes(monitor.snapshot()) == []


def test_what_the_machine_does_not_tell_is_absent_and_old_readings_too(monitor, clocks):
    assert monitor.snapshot().memory_mib is msgspec.UNSET
    monitor.machine(Readings(temperatures_c={"cpu": 50.0}, memory_mib=120.5))
    health = monitor.snapshot()
    assert health.temperatures_c == {"cpu": 50.0} and health.memory_mib == 120.5
    assert health.clocks_mhz is msgspec.UNSET and health.disk_free_mib is msgspec.UNSET
    clocks.wait(11)
    assert monitor.snapshot().memory_mib is msgspec.UNSET


def test_the_message_is_one_of_the_schema_whatever_bytes_a_name_has(clocks):
    monitor = HealthMonitor("cam\udcff", utc_ns=clocks.utc_ns, mono_ns=clocks.mono_ns)
    monitor.loaded("cpu", {"segmenter": "sha256:1", "classifier": "sha256:2"})
    monitor.state_is("running")
    monitor.reason("disk-full", "no room for a\udcfe.jsonl")
    monitor.frame(60.0, 40.0, 5.0, 46.0)
    monitor.machine(Readings({"cpu": 50.0}, {"cpu0": 1500.0}, 120.0, 10_000.0))
    health = monitor.snapshot()
    again = msgspec.json.decode(msgspec.json.encode(health), type=Health)
    assert again == health
    assert again.source == "cam\\udcff" and again.reasons[0].text == "no room for a\\udcfe.jsonl"
    assert (again.provider, again.models["classifier"]) == ("cpu", "sha256:2")


def test_what_goes_out_names_its_schema_and_leaves_out_what_is_not_known(monitor):
    message = json.loads(msgspec.json.encode(monitor.snapshot()))
    assert message["schema"] == "aerial.health/1" and message["frames"] == 0
    assert message.keys().isdisjoint({"age_ms", "temperatures_c", "clocks_mhz", "memory_mib", "disk_free_mib"})


def test_many_threads_tell_at_once():
    monitor = HealthMonitor("cam0")
    monitor.state_is("running")
    sequences = []

    def tell(number):
        for i in range(2000):
            monitor.frame(1, 1, 1, 1)
            monitor.turn()
            monitor.reason(f"code-{number}", "text" if i % 2 == 0 else None)
            if i % 100 == 0:
                sequences.append(monitor.snapshot().sequence)

    threads = [threading.Thread(target=tell, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    health = monitor.snapshot()
    assert health.frames == 8000 and health.state == "running"
    assert sorted(sequences) == list(range(80)) and health.sequence == 80


def test_telling_a_frame_is_cheap_also_with_full_rings():
    monitor = HealthMonitor("cam0")
    for _ in range(LAST_FRAMES):
        monitor.frame(60.0, 40.0, 5.0, 46.0)
    times_ns = []
    for _ in range(2000):
        start_ns = time.perf_counter_ns()
        monitor.frame(60.0, 40.0, 5.0, 46.0)
        monitor.turn()
        times_ns.append(time.perf_counter_ns() - start_ns)
    assert sorted(times_ns)[1000] < 50_000
