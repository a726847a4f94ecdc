"""Sweeps on scenes of a few pixels: trials, pruning, several workers, interruption, the leaderboard."""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
import torch

from aerial_runtime.errors import AerialError, InputError, ResourceError, UsageError
from aerial_train import sweep
from aerial_train.cli import main
from aerial_train.fit import Outcome
from aerial_train.fit_segmenter import SegmenterOptions

SMALL = ["--filters", "8-16", "--frame-size", "32", "--batch", "4", "--images-per-epoch", "8", "--held-out", "4",
         "--epochs", "2", "--workers", "0", "--threads", "1", "--accelerator", "cpu", "--logger", "none"]  # fmt: skip


def command(*words, cwd):
    argv = [Path(sys.executable).parent / "aerial-train", *words]
    return argv, {"cwd": cwd, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}


@pytest.fixture
def base(tmp_path):
    return SegmenterOptions(name="s", out=str(tmp_path), epochs=4)


@pytest.fixture
def no_training(monkeypatch):
    """Trials that take no time; their score is the learning rate, their options are remembered."""
    ran = []

    def run_training(options, *, resume, callbacks):
        ran.append((options.name, resume))
        report = callbacks[0].trial
        for epoch in range(4):
            report.report(options.lr, epoch)
        return Outcome(options.lr, options.lr, exit_code=0, kept_step=0)

    monkeypatch.setattr(sweep, "make_job", lambda options: options)
    monkeypatch.setattr(sweep, "run_training", run_training)
    return ran


def work(base, trials, storage=""):
    space = [sweep.Dimension("lr", 1e-4, 1e-2, log=True)]
    return sweep.work_on_study("segmenter", base, space, storage, trials, True)


def study_of(base, storage=""):
    return sweep.open_study(base, storage, prune=True)


def test_a_study_ends_with_its_trials_and_grows_when_more_are_asked_for(base, no_training):
    assert work(base, 3) == 0 and work(base, 3) == 0 and len(no_training) == 3
    assert work(base, 5) == 0
    assert [name for name, _ in no_training] == [f"trial-{number:04d}" for number in range(5)]


def test_the_leaderboard_ranks_by_score(base, no_training):
    work(base, 4)
    lines = sweep.leaderboard(study_of(base)).splitlines()
    assert lines[0] == "study s: 4 finished, 0 ended early, of 4 trials"
    scores = [float(re.split(r"\s+", line)[3]) for line in lines[2:]]
    assert len(scores) == 4 and scores == sorted(scores, reverse=True)


def test_the_same_sweep_alone_gives_the_same_trials(tmp_path, no_training):
    values = []
    for name in ("a", "b"):
        given = SegmenterOptions(name=name, out=str(tmp_path))
        work(given, 3)
        values.append([trial.params["lr"] for trial in study_of(given).trials])
    assert values[0] == values[1] and len(set(values[0])) == 3


def test_who_goes_on_with_a_study_tries_nothing_again(tmp_path, no_training):
    values = []
    for name, parts in (("whole", (6,)), ("parts", (2, 4, 6))):
        given = SegmenterOptions(name=name, out=str(tmp_path))
        for trials in parts:
            work(given, trials)
        values.append([trial.params["lr"] for trial in study_of(given).trials])
    assert values[0] == values[1] and len(set(values[0])) == 6


def test_an_interrupted_trial_comes_again_and_resumes_its_run(base, no_training, monkeypatch, capsys):
    finish = sweep.run_training
    monkeypatch.setattr(sweep, "run_training", lambda *_, **__: Outcome(0.0, 0.0, exit_code=130, kept_step=1))
    assert work(base, 2) == 130
    assert "goes on with trial-0000" in capsys.readouterr().out
    (base.run_dir / "trial-0000").mkdir()
    monkeypatch.setattr(sweep, "run_training", finish)
    assert work(base, 2) == 0
    assert [resume for _, resume in no_training] == [True, False]
    assert no_training[0][0] == "trial-0000"


def test_the_trial_of_a_killed_worker_is_taken_up(base, no_training):
    study = study_of(base)
    orphan = study.ask()
    orphan.suggest_float("lr", 1e-4, 1e-2, log=True)
    orphan.set_user_attr(sweep.RUN, "trial-0000")
    ended = subprocess.Popen(["true"])
    ended.wait()
    orphan.set_user_attr(sweep.WORKER, f"{os.uname().nodename} {ended.pid}")
    assert work(base, 1) == 0
    assert [name for name, _ in no_training] == ["trial-0000"]


@pytest.mark.parametrize("kind", [AerialError, torch.cuda.OutOfMemoryError])
def test_options_that_cannot_be_fail_alone(base, no_training, monkeypatch, kind):
    def refuse(options):
        raise kind("this network cannot be built")

    monkeypatch.setattr(sweep, "make_job", refuse)
    assert work(base, 2) == 0
    trials = study_of(base).trials
    assert [trial.state.name for trial in trials] == ["FAIL", "FAIL"]
    assert trials[0].user_attrs[sweep.REASON] == "this network cannot be built"


@pytest.mark.parametrize("kind", [InputError, ResourceError])
def test_what_no_options_mend_ends_the_sweep_and_costs_no_trial(base, no_training, monkeypatch, kind):
    with monkeypatch.context() as patched:

        def refuse(options):
            raise kind("no such folder")

        patched.setattr(sweep, "make_job", refuse)
        with pytest.raises(kind, match="no such folder"):
            work(base, 2)
    assert no_training == []
    assert work(base, 2) == 0
    assert [name for name, _ in no_training] == ["trial-0000", "trial-0002"]


def test_numbers_that_cannot_be_fail_alone(base, no_training):
    space = [sweep.Dimension("batch", choices=("1000000",))]
    assert sweep.work_on_study("segmenter", base, space, "", 2, True) == 0
    trials = study_of(base).trials
    assert [trial.state.name for trial in trials] == ["FAIL", "FAIL"]
    assert "--images-per-epoch" in trials[0].user_attrs[sweep.REASON]


def test_a_study_goes_on_with_its_own_choices_alone(base, no_training):
    begun, other = ([sweep.Dimension("optimizer", choices=("adamw", name))] for name in ("sgd", "muon"))
    assert sweep.work_on_study("segmenter", base, begun, "", 2, True) == 0
    with pytest.raises(UsageError, match="s began with another --search"):
        sweep.work_on_study("segmenter", base, other, "", 3, True)
    assert sum(map(sweep._counts, study_of(base).trials)) == 2


def test_a_sweep_of_runs_on_several_devices_is_refused(tmp_path, capsys):
    words = ["sweep", "segmenter", "--name", "s", "--out", str(tmp_path), "--search", "lr=1e-3..1e-1:log"]
    assert main([*words, "--devices", "2", "--accelerator", "cpu"]) == 2
    assert "see --jobs" in capsys.readouterr().err


def test_weak_trials_end_early(base, no_training, monkeypatch):
    def run_training(options, *, resume, callbacks):
        trial = callbacks[0].trial
        score = 1.0 if trial.number < 5 else 0.1
        for epoch in range(4):
            trial.report(score, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return Outcome(score, score, exit_code=0, kept_step=0)

    monkeypatch.setattr(sweep, "run_training", run_training)
    assert work(base, 6) == 0
    assert [trial.state.name for trial in study_of(base).trials][5] == "PRUNED"
    assert "5 finished, 1 ended early" in sweep.leaderboard(study_of(base))


def test_sigterm_to_a_sweep_ends_its_workers(tmp_path, monkeypatch):
    def work(*_):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        (tmp_path / f"{os.getpid()}.begun").touch()
        while len(list(tmp_path.glob("*.begun"))) < 2:
            time.sleep(0.01)
        time.sleep(0.3)  # until the sweep knows both
        os.kill(os.getppid(), signal.SIGTERM)
        time.sleep(60)

    forked = multiprocessing.get_context("fork")
    monkeypatch.setattr(sweep.multiprocessing, "get_context", lambda _: forked)
    monkeypatch.setattr(sweep, "_worker", work)
    words = ["sweep", "segmenter", "--name", "s", "--out", str(tmp_path), "--search", "lr=1e-3..1e-1:log"]
    started = time.monotonic()
    assert main([*words, "--jobs", "2", "--accelerator", "cpu"]) == 143
    assert time.monotonic() - started < 30


def test_a_database_keeps_the_study_too(base, no_training, tmp_path):
    url = f"sqlite:///{tmp_path}/study.db"
    assert work(base, 2, url) == 0
    assert len(study_of(base, url).trials) == 2
    with pytest.raises(AerialError, match="check --storage"):
        study_of(base, "nonsense://x")


def test_two_workers_share_a_study_and_ctrl_c_loses_nothing(tmp_path):
    words = ["sweep", "segmenter", "--name", "s", *SMALL, "--search", "lr=1e-3..1e-1:log", "--jobs", "2"]
    argv, how = command(*words, "--trials", "50", cwd=tmp_path)
    running = subprocess.Popen(argv, start_new_session=True, **how)
    runs = tmp_path / "runs" / "s"
    deadline = time.monotonic() + 120
    while len(list(runs.glob("*/last.pt"))) < 2:
        assert time.monotonic() < deadline and running.poll() is None, running.communicate()[0]
        time.sleep(0.1)
    os.killpg(running.pid, signal.SIGINT)
    said = running.communicate(timeout=120)[0]
    assert running.returncode == 130 and "of " in said, said
    study = study_of(SegmenterOptions(name="s", out=str(tmp_path / "runs")))
    workers = {trial.user_attrs[sweep.WORKER] for trial in study.trials if sweep.WORKER in trial.user_attrs}
    assert len(workers) == 2
    done = sum(map(sweep._counts, study.trials))
    argv, how = command(*words, "--trials", str(done + 1), cwd=tmp_path)
    finished = subprocess.run(argv, timeout=240, check=False, **how)
    assert finished.returncode == 0, finished.stdout
    assert "rank  run" in finished.stdout
    assert sum(map(sweep._counts, study.trials)) >= done + 1
