"""`aerial-train sweep`: many runs with varied options, by Optuna; weak ones end early; the leaderboard at the end.

Each trial is an ordinary run below runs/NAME. The study lies in a journal file there, or where --storage says; whoever
starts the same command again, on this or another computer that reaches the storage, works on the same study.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import optuna
import torch
from lightning.pytorch.callbacks import Callback
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from aerial_runtime.errors import AerialError, InputError, ResourceError, UsageError, run_command
from aerial_train.callbacks import KeepModels
from aerial_train.fit import run_training
from aerial_train.options import FitOptions, checked
from aerial_train.run_options import options_from
from aerial_train.search_space import Dimension, parse_search
from aerial_train.tasks import OPTIONS, add_task_arguments, make_job

RUN, WORKER, REASON = "run", "worker", "reason"  # what a study keeps of a trial, beside its options and scores
ROWS = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `aerial-train sweep`."""
    for command in add_task_arguments(parser, named=True):
        add = command.add_argument_group("sweep").add_argument
        add("--search", action="append", default=[], metavar="NAME=VALUES", help="an option to vary, once for each: "
            "lr=1e-4..1e-2:log, convs=1..3 or schedule=cosine,one-cycle")  # fmt: skip
        add("--trials", type=int, default=20, metavar="N", help="runs of the whole study; 0: the leaderboard only (20)")
        add("--jobs", type=int, default=1, metavar="N", help="trials at once on this computer (1)")
        add("--storage", default="", metavar="URL|FILE", help="where the study lies: a database's URL or a file "
            "(study.journal in the folder of the sweep)")  # fmt: skip
        add("--no-prune", action="store_true", help="let weak trials go on to their end")


def run(args: argparse.Namespace) -> int:
    """Work on the study until it has its trials; print the leaderboard; return the exit code. Raises AerialError."""
    kind = OPTIONS[args.task]
    base = options_from(args, kind, is_new_run=False)
    if args.trials < 0 or args.jobs < 1:
        raise UsageError("--trials cannot be negative, and --jobs must be at least 1")
    if base.world_size > 1:
        raise UsageError("--devices and --nodes train one run together, a sweep runs many; leave them out, see --jobs")
    dimensions = parse_search(args.search, kind) if args.trials else []
    if args.jobs > 1 and not base.threads:
        base = replace(base, threads=max(1, torch.get_num_threads() // args.jobs))
    study = open_study(base, args.storage, prune=not args.no_prune)
    work = (args.task, base, dimensions, args.storage, args.trials, not args.no_prune)
    code = 0
    if args.jobs == 1:
        code = work_on_study(*work)
    elif args.trials:
        context = multiprocessing.get_context("spawn")
        workers = [context.Process(target=_worker, args=work) for _ in range(args.jobs)]

        def pass_on(*_: object) -> None:
            for worker in workers:
                if worker.is_alive():
                    worker.terminate()

        signal.signal(signal.SIGTERM, pass_on)  # Ctrl-C reaches all processes of a terminal, SIGTERM this one alone
        for worker in workers:
            worker.start()
        code = max(_wait(worker) for worker in workers)
    print(leaderboard(study))
    return code


def open_study(base: FitOptions, storage: str, *, prune: bool) -> optuna.Study:
    """Open or begin the study of a sweep. Raises ResourceError where its storage cannot be reached."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.create_study(
            storage=_storage(base, storage),
            study_name=base.name,
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_warmup_steps=base.epochs // 5)
            if prune
            else optuna.pruners.NopPruner(),
        )
    except Exception as error:  # of whichever database it is
        raise ResourceError(f"cannot open the study {storage or base.run_dir} ({error}); check --storage") from error


def work_on_study(
    task: str, base: FitOptions, dimensions: Sequence[Dimension], storage: str, trials: int, prune: bool
) -> int:
    """Run trials until the study has `trials` of them; return 0, or 130 or 143 where a signal interrupted it.

    Raises InputError or ResourceError for data that cannot be read or a disk that is full: the trial is given back.
    """
    study = open_study(base, storage, prune=prune)
    _free_orphans(study)
    while sum(map(_counts, study.get_trials(deepcopy=False))) < trials:
        trial = study.ask()
        study.sampler = _sampler(base.seed, trial.number)
        trial.set_user_attr(WORKER, f"{socket.gethostname()} {os.getpid()}")
        name = str(trial.user_attrs.get(RUN, f"trial-{trial.number:04d}"))
        trial.set_user_attr(RUN, name)
        try:
            varied = {dimension.name: dimension.suggest(trial, OPTIONS[task]) for dimension in dimensions}
        except ValueError as error:  # Optuna's, of choices that the study began without
            study.tell(trial, state=TrialState.FAIL)
            raise UsageError(
                f"the study {base.name} began with another --search ({error}); give another --name"
            ) from error
        print(f"{name}: {', '.join(f'{key} {value}' for key, value in varied.items())}", flush=True)
        try:
            options = checked(replace(base, **varied, name=name, out=str(base.run_dir)))
            outcome = run_training(make_job(options), resume=options.run_dir.exists(), callbacks=[_Report(trial)])
        except optuna.TrialPruned:
            study.tell(trial, state=TrialState.PRUNED)
            print(f"{name}: ended early, the others were better at this point", flush=True)
            continue
        except (InputError, ResourceError):  # a folder, a file, a disk: other options would fare no better
            _give_back(study, trial.number)
            raise
        except (AerialError, torch.cuda.OutOfMemoryError) as error:  # these options cannot be: the next ones may
            trial.set_user_attr(REASON, str(error))
            study.tell(trial, state=TrialState.FAIL)
            print(f"{name}: {error}", flush=True)
            continue
        if outcome.exit_code:
            _give_back(study, trial.number)
            print(f"interrupted; the same command goes on with {name} and the rest of the study", flush=True)
            return outcome.exit_code
        study.tell(trial, outcome.best)
    return 0


def leaderboard(study: optuna.Study) -> str:
    """Return the trials of a study as a table, the best first."""
    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.state != TrialState.WAITING]
    ranked = sorted(trials, key=lambda trial: -_score(trial))
    names = sorted({name for trial in trials for name in trial.params})
    rows = [["rank", "run", "state", "score", *names]]
    for rank, trial in enumerate(ranked[:ROWS], 1):
        score = "" if _score(trial) == float("-inf") else f"{_score(trial):.4f}"
        values = [_short(trial.params.get(name, "")) for name in names]
        rows.append([str(rank), str(trial.user_attrs.get(RUN, "")), trial.state.name.lower(), score, *values])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    states = [trial.state for trial in trials]
    done, pruned = states.count(TrialState.COMPLETE), states.count(TrialState.PRUNED)
    return "\n".join(
        [f"study {study.study_name}: {done} finished, {pruned} ended early, of {len(trials)} trials", *table]
    )


class _Report(Callback):
    """Tell the study the score of each epoch; end the trial where it falls behind."""

    def __init__(self, trial: optuna.Trial) -> None:
        self.trial = trial

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report, and perhaps give up."""
        keep = next(callback for callback in trainer.callbacks if isinstance(callback, KeepModels))  # type: ignore[attr-defined]
        self.trial.report(keep.last, trainer.current_epoch)
        if self.trial.should_prune():
            raise optuna.TrialPruned


def _sampler(seed: int, number: int) -> optuna.samplers.BaseSampler:
    """Return what draws one trial. A seed for each: whoever goes on with a study, or helps, tries nothing again, and
    the same sweep alone gives the same trials."""
    drawn = int(np.random.SeedSequence((seed, number)).generate_state(1)[0])
    return optuna.samplers.TPESampler(seed=drawn, constant_liar=True)  # other workers try elsewhere meanwhile


def _storage(base: FitOptions, storage: str) -> str | BaseStorage:
    if "://" in storage:
        return storage
    path = Path(storage) if storage else base.run_dir / "study.journal"
    path.parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(str(path)))


def _counts(trial: FrozenTrial) -> bool:
    """Tell whether a trial is one of those that were asked for: given-back ones come again."""
    return trial.state != TrialState.WAITING and (trial.state != TrialState.FAIL or REASON in trial.user_attrs)


def _free_orphans(study: optuna.Study) -> None:
    """Give back the trials of workers on this computer that are no more."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        host, _, process = str(trial.user_attrs.get(WORKER, "")).partition(" ")
        if host == socket.gethostname() and not Path(f"/proc/{process}").exists():
            _give_back(study, trial.number)


def _give_back(study: optuna.Study, number: int) -> None:
    """Let another worker go on with a trial's run, from what is kept of it."""
    trial = study.get_trials(deepcopy=False)[number]
    study.tell(number, state=TrialState.FAIL)
    study.enqueue_trial(trial.params, user_attrs={RUN: trial.user_attrs.get(RUN)})


def _worker(task: str, *work: object) -> None:
    raise SystemExit(run_command("aerial-train sweep", lambda: work_on_study(task, *work)))  # type: ignore[arg-type]


def _wait(worker: multiprocessing.process.BaseProcess) -> int:
    while True:
        try:
            worker.join()
            return 128 - worker.exitcode if (worker.exitcode or 0) < 0 else worker.exitcode or 0  # type: ignore[operator]
        except KeyboardInterrupt:  # the workers have had it too, and end in order
            continue


def _score(trial: FrozenTrial) -> float:
    if trial.value is not None:
        return trial.value
    return max(trial.intermediate_values.values(), default=float("-inf"))


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
