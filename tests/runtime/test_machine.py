"""What is read of a machine, from folders that look like the kernel's."""

from __future__ import annotations

import os
import shutil
import threading
import time

import pytest

from aerial_runtime import machine
from aerial_runtime.machine import MachineWatch, Readings, read_machine

NOTHING = Readings()


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


@pytest.fixture
def sys_folder(tmp_path):
    """An Orin: the zones of a unit that it does not have say nothing, those without power say -256."""
    folder = tmp_path / "sys"
    for number, (zone, temperature) in enumerate(
        [("cpu-thermal", 48_500), ("gpu-thermal", 45_000), ("cv0-thermal", -256_000), ("PMIC-Die", 100_000)]
    ):
        write(folder / f"class/thermal/thermal_zone{number}/type", zone)
        write(folder / f"class/thermal/thermal_zone{number}/temp", temperature)
    write(folder / "class/thermal/thermal_zone4/type", "cv1-thermal")
    (folder / "class/thermal/thermal_zone4/temp").mkdir()  # reading it fails
    write(folder / "class/thermal/thermal_zone5/type", "tj-thermal")
    write(folder / "class/thermal/thermal_zone5/temp", "warm")
    for core, khz in ((0, 1_510_400), (1, 729_600), (10, 729_600)):
        write(folder / f"devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq", khz)
    (folder / "devices/system/cpu/cpu2").mkdir()  # switched off by the power mode
    write(folder / "devices/system/cpu/cpufreq/policy0/scaling_cur_freq", 1)
    write(folder / "class/devfreq/15340000.vic/cur_freq", 115_200_000)
    write(folder / "class/devfreq/17000000.gpu/cur_freq", 624_750_000)
    return folder


@pytest.fixture
def proc_folder(tmp_path):
    write(tmp_path / "proc/self/statm", "900000 51200 2000 5 0 70000 0")
    return tmp_path / "proc"


def test_what_an_orin_tells(sys_folder, proc_folder):
    readings = read_machine(sys=sys_folder, proc=proc_folder)
    assert readings.temperatures_c == {"cpu": 48.5, "gpu": 45.0}
    assert readings.clocks_mhz == {"cpu0": 1510.4, "cpu1": 729.6, "cpu10": 729.6, "gpu": 624.75}
    assert readings.memory_mib == 51200 * os.sysconf("SC_PAGE_SIZE") / 2**20
    assert readings.disk_free_mib is None


@pytest.mark.parametrize("device", ["17000000.ga10b", "17000000.gv11b", "57000000.gpu", "gpu-gpc-0"])
def test_the_gpu_has_many_names(tmp_path, device):
    write(tmp_path / "class/devfreq" / device / "cur_freq", 114_750_000)
    assert read_machine(sys=tmp_path).clocks_mhz == {"gpu": 114.75}


def test_zones_of_one_name_are_kept_apart(tmp_path):
    for number, temperature in ((0, 20_000), (1, 30_000)):
        write(tmp_path / f"class/thermal/thermal_zone{number}/type", "acpitz")
        write(tmp_path / f"class/thermal/thermal_zone{number}/temp", temperature)
    assert read_machine(sys=tmp_path).temperatures_c == {"acpitz": 20.0, "acpitz-thermal_zone1": 30.0}


def test_a_machine_that_tells_nothing(tmp_path):
    assert read_machine(tmp_path / "none/out.jsonl", sys=tmp_path, proc=tmp_path) == NOTHING
    write(tmp_path / "self/statm", "")
    write(tmp_path / "class/thermal", "a file where a folder should be")
    write(tmp_path / "class/devfreq/gpu/cur_freq", "")
    assert read_machine(sys=tmp_path, proc=tmp_path) == NOTHING


def test_this_machine_tells_its_memory_and_its_disk(tmp_path):
    for output in (tmp_path / "new.jsonl", tmp_path / "old.jsonl"):
        readings = read_machine(output)
        assert 10 < readings.memory_mib < 10_000
        assert readings.disk_free_mib == pytest.approx(shutil.disk_usage(tmp_path).free / 2**20, rel=0.1)
        (tmp_path / "old.jsonl").touch()


def test_a_pipe_has_no_room_to_run_out_of(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert read_machine(tmp_path / "pipe").disk_free_mib is None


def test_the_watch_looks_again_and_again(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "EVERY_S", 0.01)
    looks, enough = [], threading.Event()

    def tell(readings):
        looks.append(readings)
        if len(looks) == 3:
            enough.set()

    with MachineWatch(tell, tmp_path / "out.jsonl"):
        assert enough.wait(5)
    count = len(looks)
    time.sleep(0.05)
    assert len(looks) == count
    assert looks[0].disk_free_mib > 0


def test_a_look_that_hangs_holds_up_nobody(monkeypatch):
    hung, go_on = threading.Event(), threading.Event()

    def hang(output):
        hung.set()
        go_on.wait(10)
        return NOTHING

    monkeypatch.setattr(machine, "read_machine", hang)
    looks = []
    start = time.monotonic()
    with MachineWatch(looks.append):
        assert hung.wait(5) and looks == []
    assert time.monotonic() - start < 2
    go_on.set()
