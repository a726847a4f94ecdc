"""Two processes that train together make the model that one makes, whoever starts them."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from aerial_train.checkpoint import load_checkpoint

TRAIN = Path(sys.executable).parent / "aerial-train"
# What depends on how a batch is split is switched off: statistics of norms, and losses of the batch as a whole.
SAME = ["--filters", "8-16", "--frame-size", "32", "--batch", "8", "--images-per-epoch", "64", "--epochs", "2",
        "--held-out", "16", "--freeze-norms", "--per-image-loss", "--workers", "0", "--threads", "1", "--accelerator",
        "cpu", "--optimizer", "sgd", "--lr", "0.05", "--logger", "none"]  # fmt: skip


def weights(folder, name):
    return load_checkpoint(folder / "runs" / name / "last.pt")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """One process with the whole batch."""
    folder = tmp_path_factory.mktemp("together")
    done = subprocess.run([TRAIN, "segmenter", "--name", "one", *SAME], cwd=folder, timeout=300, capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def check_same(folder, name):
    one, other = weights(folder, "one"), weights(folder, name)
    assert one.card.training["steps"] == other.card.training["steps"] == 16
    for (key, a), b in zip(one.network.state_dict().items(), other.network.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6, msg=key)
    for score, value in one.card.scores.items():
        assert other.card.scores[score] == pytest.approx(value, abs=1e-5), score


def test_two_processes_make_the_model_of_one(alone):
    words = [TRAIN, "segmenter", "--name", "two", *SAME, "--devices", "2"]
    done = subprocess.run(words, cwd=alone, timeout=300, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("epoch 2/2") == 1  # one of them speaks
    assert "2 processes on each of 1 nodes" in done.stdout
    check_same(alone, "two")


def test_a_launcher_sets_the_variables(alone):
    """As torchrun or a cluster does: each process is started by itself, here as two nodes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [TRAIN, "segmenter", "--name", "nodes", *SAME, "--nodes", "2"]
    running = []
    for node in ("0", "1"):
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "NODE_RANK": node,
                 "LOCAL_RANK": "0", "RANK": node, "GROUP_RANK": node, "LOCAL_WORLD_SIZE": "1",
                 "TORCHELASTIC_RUN_ID": "test"}  # fmt: skip
        running.append(subprocess.Popen(words, cwd=alone, env=os.environ | place, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True))  # fmt: skip
    said = [process.communicate(timeout=300)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    check_same(alone, "nodes")
