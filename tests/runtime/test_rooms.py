"""What flies needs nothing of the ground: every module imports with the ground packages blocked."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import importlib, pkgutil, sys

BLOCKED = {"torch", "lightning", "torchmetrics", "onnx", "onnxscript", "PIL", "aerial_train", "aerial_export"}

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ImportError(f"{name} is of the ground")

sys.meta_path.insert(0, Blocker())
import aerial_runtime
names = [module.name for module in pkgutil.walk_packages(aerial_runtime.__path__, "aerial_runtime.")]
for name in names:
    importlib.import_module(name)
assert not BLOCKED & sys.modules.keys()
print(len(names), "onnxruntime" in sys.modules)
{more}
"""


def run(more: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", SCRIPT.replace("{more}", more)], capture_output=True, text=True)


def test_every_flight_module_imports_without_the_ground_and_without_an_engine():
    answer = run()
    assert answer.returncode == 0, answer.stderr
    count, has_engine = answer.stdout.split()
    assert int(count) >= 20
    assert has_engine == "False"


def test_the_block_holds():
    assert "torch is of the ground" in run("import torch").stderr
