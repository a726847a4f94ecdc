"""The training loop that both networks share: AdamW with one cycle, averaged weights, best and last model kept."""

from __future__ import annotations

import logging
import math
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import cv2
import lightning.pytorch as pl
import msgspec
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, RichProgressBar, WeightAveraging
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.utils.data import DataLoader

from aerial_runtime.card import ModelCard
from aerial_train.checkpoint import save_checkpoint
from aerial_train.classifier import Classifier
from aerial_train.feed import Batch
from aerial_train.options import FitOptions, save_options
from aerial_train.unet import UNet

HELD_OUT_SEED_OFFSET: Final = 1_000_003
WARM_UP_SHARE: Final = 0.1  # of all steps
RESUME_FILE: Final = "last.ckpt"  # Lightning's own: optimiser, schedule and counters for an exact resume


class Task(pl.LightningModule):
    """A network, how it learns from a batch, and how it is scored. `best_by` is the score that picks best.pt."""

    best_by: str

    def __init__(self, network: UNet | Classifier, card: ModelCard, options: FitOptions) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.card, self.options = card, options

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss of a training batch, a scalar."""
        raise NotImplementedError

    def held_out_scores(self) -> dict[str, float]:
        """Return the scores of the validation batches since the last call."""
        raise NotImplementedError

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        """One step of Lightning's loop."""
        loss = self.loss(batch)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW, without decay on norms and biases, and one cycle over all steps (Smith and Topin 2018)."""
        decayed = [p for p in self.network.parameters() if p.ndim > 1]
        others = [p for p in self.network.parameters() if p.ndim <= 1]
        groups: list[dict[str, Any]] = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=self.options.lr, weight_decay=self.options.weight_decay)
        total = self.options.epochs * self.options.steps_per_epoch
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.options.lr, total_steps=total + 1, pct_start=WARM_UP_SHARE, cycle_momentum=False
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class KeepModels(Callback):
    """After each epoch: score, one line on stdout, last.pt, and best.pt where the score has risen.

    Stands before `WeightAveraging` in the list of callbacks, so that it sees the averaged weights.
    """

    def __init__(self) -> None:
        self.best = -math.inf
        self.started_ns = 0

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it back."""
        self.best = state_dict["best"]

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self.started_ns = time.monotonic_ns()

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Score and keep."""
        assert isinstance(pl_module, Task)
        seconds = (time.monotonic_ns() - self.started_ns) / 1e9
        scores = {name: value for name, value in pl_module.held_out_scores().items() if math.isfinite(value)}
        pl_module.log_dict({f"held_out/{name}": value for name, value in scores.items()})
        options = pl_module.options
        epoch = trainer.current_epoch + 1
        rate = options.steps_per_epoch * options.batch / seconds
        left_min = (options.epochs - epoch) * seconds / 60
        text = "  ".join(f"{name} {value:.4f}" for name, value in scores.items())
        print(f"epoch {epoch}/{options.epochs}  {text}  {rate:.0f} images/s, {left_min:.0f} min left", flush=True)
        facts = pl_module.card.training | {"epoch": epoch, "steps": trainer.global_step}
        card = msgspec.structs.replace(pl_module.card, scores=scores, training=facts)
        save_checkpoint(options.run_dir / "last.pt", pl_module.network, card)
        if scores.get(pl_module.best_by, -math.inf) > self.best:
            self.best = scores[pl_module.best_by]
            save_checkpoint(options.run_dir / "best.pt", pl_module.network, card)


def training_facts(options: FitOptions, network: nn.Module) -> dict[str, Any]:
    """Return what a card says of how the model was made."""
    given = asdict(options) | {"backgrounds": Path(options.backgrounds).name}
    for name in ("out", "workers", "threads"):
        del given[name]
    return {
        "data": f"synthetic scenes, recipe {options.recipe}",
        "options": given,
        "seed": options.seed,
        "commit": _commit(),
        "torch": str(torch.__version__),
        "optimizer": "AdamW, one cycle, averaged weights",
    }


def prepare(options: FitOptions) -> None:
    """Seed torch and set the threads.

    OpenCV gets one thread, here and not in the workers: they are forked, and a forked process that touches
    OpenCV's thread pool after its parent has used it waits for ever.
    """
    torch.manual_seed(options.seed)
    cv2.setNumThreads(1)
    if options.threads:
        torch.set_num_threads(options.threads)


def fit(task: Task, train: DataLoader[Batch], held_out: DataLoader[Batch], *, resume: bool) -> int:
    """Train to the end; return 0, or 130 after Ctrl-C, which loses only the epoch that was running.

    Writes options.json, last.pt, best.pt, last.ckpt and TensorBoard's curves into the run's folder.
    """
    options = task.options
    save_options(options)
    trainer = _trainer(options)
    finished = options.run_dir / RESUME_FILE
    goes_on = resume and finished.exists()  # no file: the first epoch was not finished, so it begins again
    with _known_warnings():
        try:
            trainer.fit(task, train, held_out, ckpt_path=str(finished) if goes_on else None)
        except SystemExit:
            if not trainer.interrupted:
                raise
    if trainer.interrupted:
        again = f"--resume --name {options.name} --out {options.out}"
        print(f"interrupted; {options.run_dir} holds the finished epochs; go on with: {again}")
        return 130
    print(f"done: {options.run_dir / 'best.pt'}")
    return 0


def _trainer(options: FitOptions) -> pl.Trainer:
    from lightning.pytorch.loggers import TensorBoardLogger

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # it advertises other products otherwise

    steps = options.epochs * options.steps_per_epoch
    average_over = max(1.0, min(1000.0, steps / 20))  # steps
    averaged_weights = WeightAveraging(avg_fn=_moving_average(1 - 1 / average_over))
    for_resume = ModelCheckpoint(
        options.run_dir, Path(RESUME_FILE).stem, enable_version_counter=False, save_on_train_epoch_end=True
    )
    progress = [RichProgressBar()] if sys.stdout.isatty() else []
    return pl.Trainer(
        max_epochs=options.epochs,
        accelerator="auto",
        devices=1,
        logger=TensorBoardLogger(options.run_dir, name="", version="curves"),
        callbacks=[KeepModels(), averaged_weights, for_resume, *progress],
        enable_progress_bar=bool(progress),
        enable_model_summary=False,
        gradient_clip_val=options.clip,
        log_every_n_steps=min(50, options.steps_per_epoch),
        num_sanity_val_steps=0,
    )


def _moving_average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Exponential average of the weights that forgets the first steps quickly, else it would lag for epochs."""

    def average(averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        keep = min(decay, (1 + float(count)) / (10 + float(count)))
        return keep * averaged + (1 - keep) * current  # not lerp: the norms' counters are whole numbers

    return average


@contextmanager
def _known_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        # The held-out set is in memory: workers would only copy it. Scenes may be rendered without workers on purpose.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        # options.json lies there already, and in a resumed run the models.
        warnings.filterwarnings("ignore", message=".*exists and is not empty.*")
        # Between Lightning and torch; nothing of ours.
        warnings.filterwarnings("ignore", message=".*isinstance\\(treespec, LeafSpec\\).*")
        yield


def _commit() -> str:
    """Return the commit of the code that trains, "" outside a git checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
