import cv2
import numpy as np
import pytest

from aerial_runtime.errors import CheckError
from aerial_train import cli
from aerial_train.bench import Bench
from aerial_train.find_lr import steepest_fall

SMALL = ["--filters", "8-16", "--blocks", "1", "--crop-size", "16", "--batch", "16", "--accelerator", "cpu",
         "--threads", "1"]  # fmt: skip


def test_the_steepest_fall_is_found():
    rates = np.geomspace(1e-6, 1, 200).tolist()
    losses = [2 - 1.5 / (1 + (1e-3 / rate) ** 2) + (rate > 0.1) * 20 * rate for rate in rates]
    smooth, found = steepest_fall(rates, losses)
    assert 3e-4 < found < 5e-3
    assert smooth[0] == pytest.approx(losses[0])  # not drawn towards 0


def test_a_loss_that_only_rises_suggests_nothing():
    with pytest.raises(CheckError, match="fell nowhere"):
        steepest_fall([1e-3, 1e-2, 1e-1, 1], [1.0, 2.0, 3.0, 4.0])


def test_the_command_suggests_and_draws(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["--steps", "60", "--lowest", "1e-4", "--plot", "c.png", "--devices", "2"]
    assert cli.main(["find-lr", "classifier", *SMALL, *words]) == 0
    said = capsys.readouterr().out
    assert "steepest fall at lr" in said and "processes" not in said  # one takes the batch of all
    assert cv2.imread("c.png") is not None
    assert not (tmp_path / "runs").exists()


def test_stages_keep_their_shares_of_the_rate(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen = []

    def step(bench, _batch):
        seen.append([group["lr"] for group in bench.optimizer.param_groups])
        return 1 / len(seen)

    monkeypatch.setattr(Bench, "step", step)
    words = ["--steps", "20", "--lowest", "1e-4", "--lr-decay", "0.5"]
    assert cli.main(["find-lr", "classifier", *SMALL, *words]) == 0
    first, last = np.array(seen[0]), np.array(seen[-1])
    assert (first.max(), last.max()) == pytest.approx((1e-4, 1))
    assert sorted(set((first / 1e-4).round(6)), reverse=True)[:3] == [1, 0.5, 0.25]
    np.testing.assert_allclose(first / 1e-4, last, rtol=1e-6)


def test_a_step_accumulates_as_many_batches_as_that_of_the_training(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen = []

    def step(_bench, *batches):
        seen.append([batch["crops"] for batch in batches])
        return 1 / len(seen)

    monkeypatch.setattr(Bench, "step", step)
    assert cli.main(["find-lr", "classifier", *SMALL, "--batch", "4", "--accumulate", "2", "--steps", "20"]) == 0
    assert {len(batches) for batches in seen} == {2} and len(seen[0][0]) == 4
    assert not np.array_equal(seen[0][0], seen[0][1]) and not np.array_equal(seen[0][1], seen[1][0])


def test_a_loss_under_zero_has_not_diverged(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    losses = [8.0 - step for step in range(10)] + [4.0] * 5 + [25.0] * 5  # falls to -1, rises, diverges
    seen = iter(losses)
    monkeypatch.setattr(Bench, "step", lambda _bench, _batch: next(seen))
    assert cli.main(["find-lr", "classifier", *SMALL, "--batch", "4", "--learned-weights", "--steps", "20"]) == 0
    assert "loss 25.0000: diverged" in capsys.readouterr().out
    assert len(list(seen)) == 4


def test_bad_requests(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["find-lr", "classifier", *SMALL, "--steps", "3"]) == 2
    assert cli.main(["find-lr", "classifier", *SMALL, "--lowest", "2"]) == 2
    assert cli.main(["find-lr", "segmentr"]) == 2
    assert cli.main(["find-lr", "classifier", *SMALL, "--steps", "60", "--lowest", "1e-4", "--plot", "none/c.png"]) == 5
    assert "none/c.png" in capsys.readouterr().err
