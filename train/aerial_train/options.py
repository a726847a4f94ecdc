"""Training options: a dataclass is the one place that names them; command line, config file and resumed run follow it.

What counts, the strongest first: flags, the config file, the recipe, the defaults. A resumed run keeps what it was
started with, but for what changes only how fast it is.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import tomllib

from aerial_runtime.card import SHIPPED_LABEL_SPACE
from aerial_runtime.errors import InputError, ResourceError, UsageError
from aerial_train.choices import nearest

OPTIONS_FILE: Final = "options.json"
# What may differ in a resumed run: it changes how fast the run is, not what comes out.
FREE_WHEN_RESUMED: Final = ("workers", "threads", "out", "name", "devices", "nodes", "accelerator")
SCHEDULES: Final = ("one-cycle", "cosine", "step", "plateau", "constant")
OPTIMIZERS: Final = ("adamw", "sgd")
LOGGERS: Final = ("tensorboard", "csv", "mlflow", "wandb", "none")


def option(default: Any, text: str, group: str = "run", **keywords: Any) -> Any:
    """Return a dataclass field that is also a command-line option; keywords are those of `add_argument`."""
    return field(default=default, metadata={"help": text, "group": group, **keywords})


def whole_numbers(text: str) -> tuple[int, ...]:
    """Parse `16-32-64` or `16,32,64`. Raises ValueError, which argparse turns into a usage error."""
    return tuple(int(part) for part in text.replace(",", "-").split("-"))


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

    optimizer: str = option("adamw", "adamw or sgd (with Nesterov momentum)", "optimiser", choices=OPTIMIZERS)
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
    workers: int = option(-1, "processes that render or read, a device; 0: between the steps, -1: half of the cores",
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
        return max(1, min(16, (os.cpu_count() or 1) // (2 * self.devices)))

    @classmethod
    def recipes(cls) -> dict[str, dict[str, Any]]:
        """Return the options that each recipe sets."""
        return {}


Options = TypeVar("Options", bound=FitOptions)


def add_options(parser: argparse.ArgumentParser, options: type[FitOptions], *, can_resume: bool = True) -> None:
    """Add an option per field, --config and --resume. Help shows the defaults."""
    groups: dict[str, Any] = {}
    for item in fields(options):
        keywords = dict(item.metadata)
        text, title = keywords.pop("help"), keywords.pop("group")
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
        if isinstance(item.default, bool):
            keywords["action"] = argparse.BooleanOptionalAction
        else:
            keywords.setdefault("type", type(item.default))
            if "choices" not in keywords:
                keywords.setdefault("metavar", "X" if isinstance(item.default, float) else "N")
        shown = "" if item.default in ("", (), False) else f" ({_shown(item.default)})"
        # What is not given stays absent: a resumed run must tell a repeated default from none.
        groups[title].add_argument(_flag(item.name), default=argparse.SUPPRESS, help=text + shown, **keywords)
    groups["run"].add_argument("--config", type=Path, metavar="FILE.toml", help="file with these options as keys")
    if can_resume:
        groups["run"].add_argument("--resume", action="store_true", help="go on with the run NAME where it was stopped")


def options_from(args: argparse.Namespace, options: type[Options], *, is_new_run: bool = True) -> Options:
    """Return checked options; with --resume those of the interrupted run. Raises UsageError, InputError.

    is_new_run: False for commands that make no run of that name.
    """
    flags = {item.name: getattr(args, item.name) for item in fields(options) if hasattr(args, item.name)}
    if args.config is not None:
        flags = read_config(args.config, options) | flags
    given = _checked(options(**_recipe_options(options, flags) | flags))
    if not getattr(args, "resume", False):
        if is_new_run and given.run_dir.exists() and is_main_process():
            raise UsageError(f"the run {given.run_dir} exists; give another --name, or --resume to go on with it")
        return given
    saved = saved_options(given.run_dir, options)
    for name, value in flags.items():
        if name not in FREE_WHEN_RESUMED and value != getattr(saved, name):
            raise UsageError(
                f"{given.run_dir} was started with another {_flag(name)}; leave it out, or begin a new run"
            )
    free = {name: flags[name] for name in FREE_WHEN_RESUMED if name in flags}
    return _checked(replace(saved, **free))


def save_options(options: FitOptions) -> None:
    """Make the run's folder and write its options there. Raises ResourceError where that cannot be."""
    try:
        options.run_dir.mkdir(parents=True, exist_ok=True)
        (options.run_dir / OPTIONS_FILE).write_text(json.dumps(asdict(options), indent=1) + "\n")
    except OSError as error:
        raise ResourceError(
            f"cannot write the run {options.run_dir} ({error.strerror}); choose another --out"
        ) from error


def saved_options(run_dir: Path, options: type[Options]) -> Options:
    """Return the options that a run was started with. Raises InputError."""
    path = run_dir / OPTIONS_FILE
    try:
        values: dict[str, Any] = json.loads(path.read_text())
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        return options(**values)
    except OSError as error:
        raise InputError(f"there is no run {run_dir} to resume; check --name and --out") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is damaged or of another kind of run ({error}); start a new run") from error


def read_config(path: Path, options: type[FitOptions]) -> dict[str, Any]:
    """Return field name -> value of a TOML file whose keys are flags without dashes in front.

    Raises InputError for a file that cannot be read, UsageError for an unknown key or a value of the wrong kind.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the config file {path} ({error.strerror}); check --config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"the config file {path} is not valid TOML ({error}); correct it") from error
    known = {item.name: item for item in fields(options)}
    values: dict[str, Any] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in known:
            raise UsageError(f"the config file {path} has an unknown key {key!r}; {nearest(name, known)}")
        values[name] = option_value(options, name, value, f"{key} in {path}")
    return values


def option_value(options: type[FitOptions], name: str, value: Any, where: str) -> Any:
    """Return a value from a file or a search space as the field `name` holds it. Raises UsageError, naming `where`."""
    item = next(item for item in fields(options) if item.name == name)
    default: Any = item.default
    parse: Callable[[str], Any] = item.metadata.get("type", type(default))
    text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    found: Any
    try:
        found = {"true": True, "false": False}[text.lower()] if isinstance(default, bool) else parse(text)
    except (ValueError, KeyError) as error:
        raise UsageError(f"{where} cannot be {value!r}; it must be like {_shown(default)!r}") from error
    choices = item.metadata.get("choices")
    if choices and found not in choices:
        raise UsageError(f"{where} cannot be {found!r}; {nearest(str(found), choices)}")
    return found


def network_changes(options: FitOptions) -> dict[str, Any]:
    """Return what the options of the group "network" change; empty ones leave the network as it is."""
    group = [item.name for item in fields(options) if item.metadata["group"] == "network"]
    return {name: getattr(options, name) for name in group if getattr(options, name)}


def is_main_process() -> bool:
    """Tell whether this process is the first of those that train together: only that one writes and speaks."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"))


def _recipe_options(options: type[FitOptions], flags: dict[str, Any]) -> dict[str, Any]:
    recipes = options.recipes()
    name = flags.get("recipe", options.recipe)
    if recipes and name not in recipes:
        raise UsageError(f"--recipe cannot be {name!r}; {nearest(name, recipes)}")
    return recipes.get(name, {})


def _checked(options: Options) -> Options:
    for name in ("epochs", "batch", "held_out", "lr", "accumulate", "devices", "nodes", "lr_decay", "step_factor"):
        if getattr(options, name) <= 0:
            raise UsageError(f"{_flag(name)} must be more than 0, is {getattr(options, name)}")
    for name in ("threads", "weight_decay", "seed", "clip", "early_stop", "patience", "freeze_epochs"):
        if getattr(options, name) < 0:
            raise UsageError(f"{_flag(name)} cannot be negative, is {getattr(options, name)}")
    for name in ("workers", "average"):
        if getattr(options, name) < -1:
            raise UsageError(f"{_flag(name)} must be at least -1, is {getattr(options, name)}")
    for name in ("warm_up", "momentum"):
        if not 0 <= getattr(options, name) < 1:
            raise UsageError(f"{_flag(name)} must be within 0..1, is {getattr(options, name)}")
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
    return options


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _shown(value: Any) -> str:
    if not isinstance(value, tuple):
        return str(value)
    return ("," if value and isinstance(value[0], float | str) else "-").join(map(str, value))
