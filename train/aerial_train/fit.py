"""The training loop that both networks share: Lightning's trainer, set up as the options say."""

from __future__ import annotations

import itertools
import logging
import pickle
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    LearningRateMonitor,
    ModelCheckpoint,
    RichProgressBar,
    WeightAveraging,
)
from lightning.pytorch.loggers import Logger
from torch import Tensor

from aerial_runtime.errors import InputError, ResourceError
from aerial_train.callbacks import RESUME_FILE, KeepModels, Pictures, StopOnSignal, WholeFiles, signals_given_back
from aerial_train.device import describe_device, precision_of, uses_gpu
from aerial_train.feed import Feed, TrainingData
from aerial_train.network_summary import describe
from aerial_train.options import FitOptions, is_main_process
from aerial_train.run_options import save_options
from aerial_train.task import Task


@dataclass(frozen=True)
class Job:
    """A task with what it learns from and what it is scored on."""

    task: Task
    train: TrainingData
    held_out: TrainingData


@dataclass(frozen=True)
class Outcome:
    """How a training ended: best and last score (of `Task.best_by`), 0 or the exit code of the signal that interrupted
    it, and the step of the optimiser from which it would go on."""

    best: float
    last: float
    exit_code: int
    kept_step: int


def prepare(options: FitOptions) -> None:
    """Seed torch and set the threads; done before a network is made.

    OpenCV gets one thread, here and not in the workers: they are forked, and a forked process that touches
    OpenCV's thread pool after its parent has used it waits for ever.
    """
    torch.manual_seed(options.seed)
    cv2.setNumThreads(1)
    if options.threads:
        torch.set_num_threads(options.threads)


def fit(job: Job, *, resume: bool) -> int:
    """Train to the end; return 0, or 130 or 143 where a signal interrupted it, with everything kept."""
    options = job.task.options
    outcome = run_training(job, resume=resume)
    if not is_main_process():
        return 0
    if outcome.exit_code:
        again = f"aerial-train {job.task.card.kind} --resume --name {options.name} --out {options.out}"
        kept = f"{options.run_dir} keeps everything up to step {outcome.kept_step} of {options.optimizer_steps}"
        print(f"interrupted; {kept}; go on with: {again}")
        return outcome.exit_code
    print(f"done: {options.run_dir / 'best.pt'}")
    return 0


def run_training(job: Job, *, resume: bool, callbacks: Sequence[Callback] = ()) -> Outcome:
    """Train, or go on; write options.json, last.pt, best.pt, last.ckpt and the curves into the run's folder.

    Raises AerialError for a device or a tracker that is not there, a resume file that is damaged, or a full disk.
    """
    options = job.task.options
    say_once(describe_device(options))
    if is_main_process():
        network = job.task.network.to("cuda" if uses_gpu(options) else "cpu")
        print(describe(network, job.task.images_shape, measured=True), flush=True)
    if is_main_process():
        save_options(options)
    keep, stop = KeepModels(), StopOnSignal(options)
    trainer = make_trainer(options, [keep, *_averaging(options), *callbacks, stop, *_others(job.task)])
    finished = options.run_dir / RESUME_FILE
    goes_on = resume and finished.exists()  # no file: nothing was kept yet, so it begins again
    with known_warnings(), signals_given_back():
        try:
            feed = Feed(job.train, job.held_out, options)
            trainer.fit(job.task, datamodule=feed, ckpt_path=str(finished) if goes_on else None)
        except SystemExit:
            if not trainer.interrupted:
                raise
        except (RuntimeError, KeyError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
            if goes_on and trainer.global_step == 0:
                raise InputError(
                    f"{finished} cannot be read ({_first_line(error)}); start a new run from best.pt by --init"
                ) from error
            raise
        except BrokenPipeError:  # whoever reads our lines has gone
            raise
        except OSError as error:  # of the curves, for all else that is written says so itself
            raise ResourceError(
                f"cannot write the run {options.run_dir} ({error.strerror or error}); make room, then go on by --resume"
            ) from error
    stopped_early = stop.asked and trainer.current_epoch < options.epochs
    exit_code = 128 + stop.number if trainer.interrupted or stopped_early else 0
    return Outcome(keep.best, keep.last, exit_code, stop.kept_step)


def make_trainer(options: FitOptions, callbacks: Sequence[Callback]) -> pl.Trainer:
    """Return a trainer for the options' devices. Raises ResourceError, UsageError."""
    for name in ("lightning.pytorch", "lightning.fabric"):  # they advertise other products otherwise
        logging.getLogger(name).setLevel(logging.WARNING)
    on_gpu = uses_gpu(options)
    together = options.world_size > 1
    progress = [RichProgressBar()] if sys.stdout.isatty() and is_main_process() else []
    return pl.Trainer(
        max_epochs=options.epochs,
        accelerator="cuda" if on_gpu else "cpu",
        devices=options.devices,
        num_nodes=options.nodes,
        strategy="ddp" if together else "auto",
        sync_batchnorm=together and on_gpu,
        use_distributed_sampler=False,  # the feed shares every batch itself
        precision=precision_of(options),  # type: ignore[arg-type]
        logger=_logger(options),
        callbacks=[*callbacks, *progress],
        plugins=[WholeFiles()],
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        enable_progress_bar=bool(progress),
        enable_model_summary=False,
        gradient_clip_val=options.clip or None,
        accumulate_grad_batches=options.accumulate,
        log_every_n_steps=min(50, options.steps_per_epoch),
        num_sanity_val_steps=0,
        default_root_dir=options.run_dir,
    )


def training_facts(options: FitOptions) -> dict[str, Any]:
    """Return what a card says of how the model was made."""
    given = asdict(options) | {
        name: Path(getattr(options, name)).name for name in ("backgrounds", "init", "label_space")
    }
    for name in ("out", "workers", "threads", "logger"):
        del given[name]
    data = f"synthetic scenes, recipe {options.recipe}" if options.data == "scenes" else f"data {_names(options.data)}"
    average = "" if options.average == 0 else ", averaged weights"
    return {
        "data": data,
        "options": given | {"data": _names(options.data), "held_out_data": _names(options.held_out_data)},
        "seed": options.seed,
        "commit": _commit(),
        "torch": str(torch.__version__),
        "optimizer": f"{options.optimizer}, {options.schedule}{average}",
    }


def say_once(text: str) -> None:
    """Print, in the first of the processes that train together."""
    if is_main_process():
        print(text, flush=True)


def _averaging(options: FitOptions) -> list[Callback]:
    if options.average == 0:
        return []
    steps = options.average if options.average > 0 else max(1.0, min(1000.0, options.optimizer_steps / 20))
    return [WeightAveraging(avg_fn=_moving_average(1 - 1 / steps))]


def _others(task: Task) -> list[Callback]:
    options = task.options
    others: list[Callback] = [
        ModelCheckpoint(
            options.run_dir, Path(RESUME_FILE).stem, enable_version_counter=False, save_on_train_epoch_end=True
        )
    ]
    if options.logger != "none":
        others.append(LearningRateMonitor("step"))
    if options.logger == "tensorboard":
        others.insert(0, Pictures())
    if options.early_stop:
        score = f"held_out/{task.best_by}"
        others.append(EarlyStopping(score, mode="max", patience=options.early_stop))
    return others


def _logger(options: FitOptions) -> Logger | bool:
    """Return the tracker that was asked for. Raises ResourceError where its package is missing."""
    from lightning.pytorch import loggers

    run = options.run_dir
    try:
        if options.logger == "tensorboard":
            return loggers.TensorBoardLogger(run, name="", version="curves")
        if options.logger == "csv":
            _set_aside(run / "curves" / "metrics.csv")
            return loggers.CSVLogger(run, name="", version="curves")
        if options.logger == "mlflow":
            return loggers.MLFlowLogger(experiment_name="aerial", run_name=options.name)
        if options.logger == "wandb":
            return loggers.WandbLogger(name=options.name, project="aerial", save_dir=run)
    except ModuleNotFoundError as error:
        raise ResourceError(f"--logger {options.logger} needs its package; pip install {options.logger}") from error
    return False


def _set_aside(curves: Path) -> None:
    """Give the curves of a run that goes on the next free name, metrics-1.csv, ...: Lightning would delete them."""
    if is_main_process() and curves.exists():
        names = (curves.with_name(f"{curves.stem}-{number}{curves.suffix}") for number in itertools.count(1))
        curves.rename(next(name for name in names if not name.exists()))


def _moving_average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Exponential average of the weights that forgets the first steps quickly, else it would lag for epochs."""

    def average(averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        keep = min(decay, (1 + float(count)) / (10 + float(count)))
        return keep * averaged + (1 - keep) * current  # not lerp: the norms' counters are whole numbers

    return average


@contextmanager
def known_warnings() -> Iterator[None]:
    """Silence what Lightning says of things that are as they should be."""
    with warnings.catch_warnings():
        # The held-out set is in memory: workers would only copy it. Scenes may be rendered without workers on purpose.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        # options.json lies there already, and in a resumed run the models.
        warnings.filterwarnings("ignore", message=".*exists and is not empty.*")
        # The feed goes on after the last step by itself.
        warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")
        # Between Lightning and torch; nothing of ours.
        warnings.filterwarnings("ignore", message=".*isinstance\\(treespec, LeafSpec\\).*")
        yield


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _names(data: str) -> str:
    """Drop the folders from the paths in a description of data: a card goes to other computers."""
    parts = (part.partition("=") for part in data.split(","))
    return ",".join(Path(where).name + sign + weight for where, sign, weight in parts)


def _commit() -> str:
    """Return the commit of the code that trains, "" outside a git checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
