"""What Lightning trains: a network, its loss, and how it is scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchmetrics import Metric

from aerial_runtime.card import ModelCard
from aerial_runtime.contract import U8
from aerial_train.classifier import Classifier
from aerial_train.feed import Batch
from aerial_train.optimizers import make_optimizer, make_plateau, make_scheduler
from aerial_train.options import FitOptions
from aerial_train.transfer import frozen_parts, keep_norms
from aerial_train.unet import UNet


@dataclass(frozen=True)
class Seen:
    """What a network makes of a held-out batch: how wrong each sample is, float [N], and its raw outputs."""

    error: Tensor
    outputs: Any


class Task(pl.LightningModule):
    """A network, how it learns from a batch, and how it is scored. `best_by` is the score that picks best.pt."""

    best_by: str

    def __init__(self, network: UNet | Classifier, criterion: nn.Module, card: ModelCard, options: FitOptions) -> None:
        """criterion: the loss; it may hold weights that are learned."""
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.criterion, self.card, self.options = criterion, card, options
        self._plateau: ReduceLROnPlateau | None = None
        self._plateau_state: dict[str, Any] | None = None
        self._frozen = frozen_parts(network, options.freeze)
        if options.compile:
            self.network.compile()

    @property
    def images_shape(self) -> tuple[int, int, int, int]:
        """Images of a step on one device, [N, H, W, C]."""
        raise NotImplementedError

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss of a training batch, a scalar."""
        raise NotImplementedError

    def look(self, batch: Batch) -> Seen:
        """Score a held-out batch."""
        raise NotImplementedError

    def held_out_scores(self) -> dict[str, float]:
        """Return the scores of the held-out batches since `forget_scores`, over all processes."""
        raise NotImplementedError

    def picture(self, batch: Batch, seen: Seen, index: int) -> U8:
        """Return sample `index` of a held-out batch with truth and answer, BGR, to look at."""
        raise NotImplementedError

    def confusions(self) -> dict[str, tuple[tuple[str, ...], Tensor]]:
        """Return by name the classes and the counts [truth, answer] of the held-out set; none for a segmenter."""
        return {}

    def validation_step(self, batch: Batch, _index: int) -> dict[str, Any]:
        """One step of Lightning's loop."""
        return {"seen": self.look(batch)}

    def forget_scores(self) -> None:
        """Begin to score anew."""
        for module in self.modules():
            if isinstance(module, Metric):
                module.reset()

    def on_validation_epoch_start(self) -> None:
        """Begin to score anew."""
        self.forget_scores()

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        """One step of Lightning's loop."""
        loss = self.loss(batch)
        self.log("train_loss", loss, prog_bar=True, batch_size=self.options.batch // self.options.world_size)
        return loss

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Make what chance decides in this step (dropout) a function of the seed, the step and the process."""
        seed = (self.options.seed * 1_000_003 + self.current_epoch * self.options.steps_per_epoch + batch_idx) * 64
        torch.manual_seed(seed + self.global_rank)

    def train(self, mode: bool = True) -> Task:
        """Switch to training; norms whose statistics are kept stay as they are in flight."""
        super().train(mode)
        if mode and self.options.freeze_norms:
            keep_norms(self.network)
        if mode and self._is_frozen():
            for part in self._frozen:
                keep_norms(part)
        return self

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Drop the gradients of what is frozen: optimisers leave weights without gradient alone."""
        if self._is_frozen():
            for part in self._frozen:
                part.zero_grad(set_to_none=True)

    def configure_optimizers(self) -> Any:
        """Return optimiser and schedule as the options say."""
        optimizer = make_optimizer(self.network, self.criterion, self.options)
        self._plateau = make_plateau(optimizer, self.options)
        if self._plateau is not None and self._plateau_state is not None:
            self._plateau.load_state_dict(self._plateau_state)
        scheduler = make_scheduler(optimizer, self.options, self.options.optimizer_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def heed_score(self, score: float) -> None:
        """Lower the learning rate where the score has not risen for long, with the schedule `plateau`.

        Here, for Lightning does so only after it has kept the epoch: a resumed run would miss it.
        """
        if self._plateau is not None:
            self._plateau.step(score)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what `heed_score` remembers."""
        if self._plateau is not None:
            checkpoint["plateau"] = self._plateau.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it back; the optimiser is made after this."""
        self._plateau_state = checkpoint.get("plateau")

    def on_train_start(self) -> None:
        """Hold still what is frozen; an epoch that is resumed in its middle has no start."""
        self.train()

    def on_train_epoch_start(self) -> None:
        """Thaw the norms where the frozen time is over."""
        self.train()

    def _is_frozen(self) -> bool:
        after = self.options.freeze_epochs
        epoch = self.current_epoch if self._trainer is not None else 0
        return bool(self._frozen) and (after == 0 or epoch < after)
