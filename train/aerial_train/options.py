"""Training options: a dataclass is the one place that names them; command line, config file and sweeps follow it."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, TypeVar

from aerial_runtime.card import SHIPPED_LABEL_SPACE
from aerial_runtime.errors import UsageError

SCHEDULES: Final = ("one-cycle", "cosine", "step", "plateau", "constant")
OPTIMIZERS: Final = ("adamw", "muon", "sgd")
MAX_SEED: Final = 2**32 - 1  # of NumPy and Lightning
LOGGERS: Final = ("tensorboard", "csv", "mlflow", "wandb", "none")


def option(default: Any, text: str, group: str = "run", **keywords: Any) -> Any:
    """Return a dataclass field that is also a command-line option; keywords are those of `add_argument`."""
    return field(default=default, metadata={"help": text, "group": group, **keywords})


def whole_numbers(text: str) -> tuple[int, ...]:
    """Parse `16-32-64` or `16,32,64`; nothing is none. Raises ValueError, which argparse turns into a usage error."""
    return tuple(int(part) for part in text.replace(",", "-").split("-")) if text else ()


def numbers(text: str) -> tuple[float, ...]:
    """Parse `0.6,0.85`. Raises ValueError."""
    return tuple(float(part) for part in text.split(","))


def names(text: str) -> tuple[str, ...]:
    """Parse `stem,encoder`."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """What both trainings ask for."""

    name: str = option("", "name of the run", metavar="NAME")
    out: str = option("runs", "folder that holds the runs", metavar="DIR")
    recipe: str = option("flight", "what scenes hold, and the options that go with it", metavar="RECIPE")
    seed: int = option(0, "of weights and scenes")
    logger: str = option("tensorboard", "where the curves go", choices=LOGGERS)

    data: str = option("scenes", "scenes, a dataset, or a mixture such as scenes=0.9,real=0.1", "data", metavar="DATA")
    held_out_data: str = option("", "what models are scored on; empty: the held-out part of --data", "data",
                                metavar="DATA")  # fmt: skip
    label_space: str = option(SHIPPED_LABEL_SPACE, "class tables: a JSON file or a shipped name", "data", metavar="L")
    backgrounds: str = option("", "folder of photos to draw targets on; procedural terrain if empty", "data",
                              metavar="DIR")  # fmt: skip
    margin: float = option(1.3, "side of the square crop over the longer side of the box; both models must agree",
                           "data")  # fmt: skip

    epochs: int = option(20, "passes; the learning rate's schedule spans all of them", "length")
    images_per_epoch: int = option(16384, "images in a pass", "length")
    batch: int = option(64, "images in a step, over all devices", "length")
    held_out: int = option(512, "images of the fixed held-out set", "length")
    early_stop: int = option(0, "end after so many epochs without a better score; 0: never", "length")

    optimizer: str = option(
        "adamw", "adamw, muon (orthogonal steps) or sgd (with Nesterov)", "optimiser", choices=OPTIMIZERS
    )
    lr: float = option(4e-3, "highest learning rate", "optimiser")
    momentum: float = option(0.9, "of sgd", "optimiser")
    weight_decay: float = option(0.01, "never on norms and biases", "optimiser")
    schedule: str = option("one-cycle", "of the learning rate", "optimiser", choices=SCHEDULES)
    warm_up: float = option(0.1, "share of all steps in which the rate rises", "optimiser")
    step_at: tuple[float, ...] = option((0.6, 0.85), "shares of all steps at which `step` lowers the rate",
                                        "optimiser", type=numbers, metavar="X,X")  # fmt: skip
    step_factor: float = option(0.1, "by which `step` and `plateau` lower the rate", "optimiser")
    patience: int = option(3, "epochs without a better score before `plateau` lowers the rate", "optimiser")
    clip: float = option(1.0, "largest norm of the gradient; 0: any", "optimiser")
    accumulate: int = option(1, "batches whose gradients are added before a step", "optimiser")
    average: int = option(-1, "steps over which weights are averaged (EMA); 0: not, -1: a twentieth, at most 1000",
                          "optimiser")  # fmt: skip

    init: str = option("", "checkpoint whose weights are where the training starts", "transfer", metavar="MODEL.pt")
    new_heads: bool = option(False, "take the trunk of --init alone, for another label space", "transfer")
    freeze: tuple[str, ...] = option((), "parts that do not learn, such as stem,encoder", "transfer", type=names,
                                     metavar="PART,PART")  # fmt: skip
    freeze_epochs: int = option(0, "after which frozen parts learn too; 0: never", "transfer")
    freeze_norms: bool = option(False, "keep the statistics of all batch norms", "transfer")
    lr_decay: float = option(1.0, "factor of the learning rate from each stage to the one before it", "transfer")

    accelerator: str = option("auto", "auto takes a GPU where there is one", "machine", choices=("auto", "cpu", "gpu"))
    devices: int = option(1, "GPUs, or processes on a CPU, on each node", "machine")
    nodes: int = option(1, "computers; see docs/training.md", "machine")
    precision: str = option("auto", "of the arithmetic; auto: 32 on a CPU", "machine",
                            choices=("auto", "32", "bf16", "16"))  # fmt: skip
    compile: bool = option(False, "compile the network with torch.compile: a minute at the start", "machine")
    workers: int = option(-1, "processes that render or read, a device; 0: between the steps, -1: one a core",
                          "machine")  # fmt: skip
    threads: int = option(0, "CPU threads of the training; 0 leaves it to torch", "machine")

    @property
    def world_size(self) -> int:
        """Processes that train together."""
        return self.devices * self.nodes

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in a pass."""
        return self.images_per_epoch // self.batch

    @property
    def optimizer_steps(self) -> int:
        """Steps of the optimiser in all epochs."""
        return self.epochs * -(-self.steps_per_epoch // self.accumulate)

    @property
    def run_dir(self) -> Path:
        """Folder of this run."""
        return Path(self.out) / self.name

    @property
    def backgrounds_dir(self) -> Path | None:
        """Folder of photos, None for procedural terrain."""
        return Path(self.backgrounds) if self.backgrounds else None

    @property
    def worker_processes(self) -> int:
        """Number of worker processes a device."""
        if self.workers >= 0:
            return self.workers
        return max(1, min(16, (os.cpu_count() or 1) // self.devices))

    @classmethod
    def recipes(cls) -> dict[str, dict[str, Any]]:
        """Return the options that each recipe sets."""
        return {}


Options = TypeVar("Options", bound=FitOptions)


def network_changes(options: FitOptions) -> dict[str, Any]:
    """Return what the options of the group "network" change; those not given leave the network as it is.

    A dropout of 0 and a switch set to no are given, which of --init's network is a change: not given they are None.
    """
    group = [item for item in fields(options) if item.metadata["group"] == "network"]
    values = {item.name: (getattr(options, item.name), item.default) for item in group}
    return {name: value for name, (value, default) in values.items() if value != default}


def is_main_process() -> bool:
    """Tell whether this process is the first of those that train together: only that one writes and speaks."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"))


def checked(options: Options) -> Options:
    """Return the options. Raises UsageError for numbers that cannot be."""
    for item in fields(options):
        value = getattr(options, item.name)
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"{flag_of(item.name)} must be a number, is {value}")
    for name in ("epochs", "batch", "held_out", "lr", "accumulate", "devices", "nodes", "lr_decay", "step_factor"):
        if getattr(options, name) <= 0:
            raise UsageError(f"{flag_of(name)} must be more than 0, is {getattr(options, name)}")
    for name in ("threads", "weight_decay", "seed", "clip", "early_stop", "patience", "freeze_epochs"):
        if getattr(options, name) < 0:
            raise UsageError(f"{flag_of(name)} cannot be negative, is {getattr(options, name)}")
    if options.seed > MAX_SEED:
        raise UsageError(f"--seed must be at most {MAX_SEED}, is {options.seed}")
    for name in ("workers", "average"):
        if getattr(options, name) < -1:
            raise UsageError(f"{flag_of(name)} must be at least -1, is {getattr(options, name)}")
    for name in ("warm_up", "momentum"):
        if not 0 <= getattr(options, name) < 1:
            raise UsageError(f"{flag_of(name)} must be within 0..1, is {getattr(options, name)}")
    if options.steps_per_epoch < 1:
        raise UsageError(f"--images-per-epoch {options.images_per_epoch} is less than one --batch of {options.batch}")
    if options.batch % options.world_size:
        raise UsageError(
            f"--batch {options.batch} cannot be shared by {options.world_size} processes; the nearest that can is "
            f"{max(1, round(options.batch / options.world_size)) * options.world_size}"
        )
    if not 1 <= options.margin <= 4:
        raise UsageError(f"--margin must be within 1..4, is {options.margin}")
    if not options.name or "/" in options.name:
        raise UsageError(f"--name must be a plain name, is {options.name!r}; give --name NAME")
    if options.new_heads and not options.init:
        raise UsageError("--new-heads goes with --init MODEL.pt")
    if options.freeze_epochs and not options.freeze:
        raise UsageError("--freeze-epochs goes with --freeze PARTS")
    return options


def flag_of(name: str) -> str:
    """Return the command-line flag of a field."""
    return "--" + name.replace("_", "-")
