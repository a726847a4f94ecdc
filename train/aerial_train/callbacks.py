"""What happens between the steps of a training: models kept, signals obeyed, pictures for TensorBoard."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

import lightning.pytorch as pl
import msgspec
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor

from aerial_runtime.contract import U8
from aerial_runtime.errors import CheckError
from aerial_train.checkpoint import save_checkpoint, write_content
from aerial_train.feed import Batch
from aerial_train.options import FitOptions
from aerial_train.task import Seen, Task

RESUME_FILE: Final = "last.ckpt"  # Lightning's own: optimiser, schedule and counters for an exact resume
PICTURES: Final = 16  # of each kind in TensorBoard
STOPPING: Final = (signal.SIGINT, signal.SIGTERM)


class WholeFiles(TorchCheckpointIO):
    """Writes last.ckpt whole or not at all.

    Lightning's own way is by the folder for temporary files: where that is another disk it copies from there over the
    old file, and a full disk leaves neither.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a file. Raises ResourceError."""
        write_content(Path(path), checkpoint)


class KeepModels(Callback):
    """After each epoch: score, one line on stdout, last.pt, and best.pt where the score has risen.

    Stands before `WeightAveraging` in the list of callbacks, so that it sees the averaged weights.
    """

    def __init__(self) -> None:
        self.best = -math.inf
        self.last = -math.inf
        self._started_ns = 0
        self._steps_before = 0

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it back."""
        self.best = state_dict["best"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock of an epoch that is resumed in its middle."""
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._started_ns = time.monotonic_ns()
        self._steps_before = trainer.fit_loop.epoch_loop.batch_progress.current.ready

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Raise CheckError for weights that are no numbers: they never will be again, whatever is still learnt."""
        assert isinstance(pl_module, Task)
        if all(bool(tensor.isfinite().all()) for tensor in pl_module.network.state_dict().values()):
            return
        best = pl_module.options.run_dir / "best.pt"
        kept = f"{best} is of an epoch before" if best.exists() else "nothing was kept"
        raise CheckError(
            f"the training has diverged: in epoch {trainer.current_epoch + 1} the weights became NaN or infinite, and "
            f"{kept}; begin a new run with a lower --lr, aerial-train find-lr names one"
        )

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Score and keep."""
        assert isinstance(pl_module, Task)
        options = pl_module.options
        seconds = (time.monotonic_ns() - self._started_ns) / 1e9
        scores = {name: value for name, value in pl_module.held_out_scores().items() if math.isfinite(value)}
        pl_module.log_dict(
            {f"held_out/{name}": value for name, value in scores.items()}, sync_dist=trainer.world_size > 1
        )
        self.last = scores.get(pl_module.best_by, -math.inf)
        is_best = self.last > self.best
        self.best = max(self.best, self.last)
        pl_module.heed_score(self.last)
        if not trainer.is_global_zero:
            return
        epoch = trainer.current_epoch + 1
        steps = options.steps_per_epoch - self._steps_before % options.steps_per_epoch  # of this process
        left_min = (options.epochs - epoch) * options.steps_per_epoch / steps * seconds / 60
        text = "  ".join(f"{name} {value:.4f}" for name, value in scores.items())
        rate = steps * options.batch / seconds
        print(f"epoch {epoch}/{options.epochs}  {text}  {rate:.0f} images/s, {left_min:.0f} min left", flush=True)
        facts = pl_module.card.training | {"epoch": epoch, "steps": trainer.global_step}
        card = msgspec.structs.replace(pl_module.card, scores=scores, training=facts)
        save_checkpoint(options.run_dir / "last.pt", pl_module.network, card)
        if is_best:
            save_checkpoint(options.run_dir / "best.pt", pl_module.network, card)


@contextmanager
def signals_given_back() -> Iterator[None]:
    """Let whoever listened to the signals before the block hear them after it.

    Lightning gives them back only after a training that came to its end, and after an interrupt ignores Ctrl-C: what a
    sweep does after a trial that ended early could then not be stopped.
    """
    before = {number: signal.getsignal(number) for number in STOPPING}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)


class Interrupted(KeyboardInterrupt):
    """A signal has been obeyed: the step was finished, and everything is on disk."""


class StopOnSignal(Callback):
    """Ctrl-C and SIGTERM end the training after the step at hand, with all of its state kept; a second one at once.

    Stands after `WeightAveraging`, so that what is kept includes the step's average.
    """

    def __init__(self, options: FitOptions) -> None:
        self.options = options
        self.kept_step = 0  # of the optimiser, what a resumed run goes on from
        self.asked = False
        self.number: int = signal.SIGINT  # of the signal that asked

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Know from what step a resumed run goes on, even where it is ended before it takes one."""
        self.kept_step = checkpoint["global_step"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen; here, for Lightning has set its own handlers before."""
        if threading.current_thread() is threading.main_thread():
            for number in STOPPING:
                signal.signal(number, self._hear)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep everything and leave, where a signal has come to any of the processes."""
        last = batch_idx + 1 == self.options.steps_per_epoch
        # In the middle of accumulated gradients there is nothing to go on from; after the last batch the epoch's own
        # end comes first, with its score and its models.
        if not last and (batch_idx + 1) % self.options.accumulate == 0 and self._anyone_asked(trainer):
            trainer.save_checkpoint(self.options.run_dir / RESUME_FILE)
            self.kept_step = trainer.global_step
            raise Interrupted

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Obey a signal that came with the last batch or while the models were scored."""
        self.kept_step = trainer.global_step
        if self._anyone_asked(trainer):
            trainer.should_stop = True

    def _anyone_asked(self, trainer: pl.Trainer) -> bool:
        if trainer.world_size > 1:
            self.asked = trainer.strategy.reduce_boolean_decision(self.asked, all=False)
        return self.asked

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked, self.number = True, number
        print("\nstopping after this step; once more to stop at once", flush=True)


class Pictures(Callback):
    """Held-out samples for TensorBoard: some, the worst, and the confusion matrices. Of the first process only."""

    def __init__(self) -> None:
        self._some: list[U8] = []
        self._worst: list[tuple[float, U8]] = []

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw the first samples, and those that are worse than the worst so far."""
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, Task)
        seen: Seen = outputs["seen"]
        error = seen.error.float().cpu()
        for index in range(min(PICTURES - len(self._some), len(error))):
            self._some.append(pl_module.picture(batch, seen, index))
        for index in torch.argsort(error, descending=True)[:PICTURES].tolist():
            if len(self._worst) == PICTURES and float(error[index]) <= self._worst[-1][0]:
                break
            self._worst.append((float(error[index]), pl_module.picture(batch, seen, index)))
            self._worst = sorted(self._worst, key=lambda item: -item[0])[:PICTURES]

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Hand everything to TensorBoard and begin anew."""
        assert isinstance(pl_module, Task)
        counts = pl_module.confusions()  # on every process: it gathers from all of them
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
                step, board = trainer.global_step, logger.experiment
                for name, pictures in (("some", self._some), ("worst", [picture for _, picture in self._worst])):
                    if pictures:
                        board.add_image(f"held_out/{name}", _side_by_side(pictures), step, dataformats="HWC")
                for name, (classes, matrix) in counts.items():
                    board.add_figure(f"confusion/{name}", confusion_figure(classes, matrix), step)
        self._some, self._worst = [], []


def confusion_figure(classes: tuple[str, ...], counts: Tensor) -> Any:
    """Return a Matplotlib figure of counts [truth, answer], each row as shares of its truth."""
    from matplotlib.figure import Figure  # late: it takes a second

    shares = counts.float() / counts.sum(dim=1, keepdim=True).clamp(min=1)
    side = 2.5 + 0.22 * len(classes)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shares.cpu().numpy(), vmin=0, vmax=1, cmap="Blues")
    axes.set_xticks(range(len(classes)), classes, rotation=90)
    axes.set_yticks(range(len(classes)), classes)
    axes.set_xlabel("answer")
    axes.set_ylabel("truth")
    return figure


def _side_by_side(pictures: list[U8], columns: int = 4) -> U8:
    """Return pictures of one size as one, RGB [H, W, 3]."""
    rows = [np.hstack(pictures[start : start + columns]) for start in range(0, len(pictures), columns)]
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows]
    return np.asarray(np.vstack(padded)[..., ::-1], np.uint8)
