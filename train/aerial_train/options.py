"""Training options: a dataclass is the one place that names them; the command line and the resumed run follow it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from aerial_runtime.card import SHIPPED_LABEL_SPACE
from aerial_runtime.errors import InputError, ResourceError, UsageError

OPTIONS_FILE: Final = "options.json"
# What may differ in a resumed run: it changes how fast the run is, not what comes out.
FREE_WHEN_RESUMED: Final = ("workers", "threads", "out", "name")


def option(default: Any, text: str, **keywords: Any) -> Any:
    """Return a dataclass field that is also a command-line option; keywords are those of `add_argument`."""
    return field(default=default, metadata={"help": text, **keywords})


def whole_numbers(text: str) -> tuple[int, ...]:
    """Parse `16-32-64` or `16,32,64`. Raises ValueError, which argparse turns into a usage error."""
    return tuple(int(part) for part in text.replace(",", "-").split("-"))


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """What both trainings ask for."""

    name: str = option("", "name of the run", metavar="NAME")
    out: str = option("runs", "folder that holds the runs", metavar="DIR")
    label_space: str = option(SHIPPED_LABEL_SPACE, "class tables: a JSON file or a shipped name", metavar="L")
    recipe: str = option("flight", "what the scenes hold", metavar="RECIPE")
    backgrounds: str = option("", "folder of photos to draw targets on; procedural terrain if empty", metavar="DIR")
    margin: float = option(1.3, "side of the square crop over the longer side of the box; both models must agree")
    epochs: int = option(20, "passes; the learning rate's schedule spans all of them")
    images_per_epoch: int = option(16384, "fresh images in a pass")
    batch: int = option(64, "images in a step")
    held_out: int = option(512, "images of the fixed held-out set, rendered from another seed")
    lr: float = option(4e-3, "highest learning rate, of AdamW with a one-cycle schedule")
    weight_decay: float = option(0.01, "of AdamW; never on norms and biases")
    clip: float = option(1.0, "largest norm of the gradient")
    seed: int = option(0, "of weights and scenes")
    workers: int = option(1, "processes that render scenes; 0 renders between the steps")
    threads: int = option(0, "CPU threads of the training; 0 leaves it to torch")

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in a pass."""
        return self.images_per_epoch // self.batch

    @property
    def run_dir(self) -> Path:
        """Folder of this run."""
        return Path(self.out) / self.name

    @property
    def backgrounds_dir(self) -> Path | None:
        """Folder of photos, None for procedural terrain."""
        return Path(self.backgrounds) if self.backgrounds else None


Options = TypeVar("Options", bound=FitOptions)


def add_options(parser: argparse.ArgumentParser, options: type[FitOptions]) -> None:
    """Add an option per field, and --resume. Help shows the defaults."""
    for item in fields(options):
        keywords = dict(item.metadata)
        text = keywords.pop("help")
        keywords.setdefault("type", type(item.default))
        if "choices" not in keywords:
            keywords.setdefault("metavar", "X" if isinstance(item.default, float) else "N")
        flag = "--" + item.name.replace("_", "-")
        shown = "" if item.default in ("", ()) else f" ({_shown(item.default)})"
        # What is not given stays absent: a resumed run must tell a repeated default from none.
        parser.add_argument(
            flag, default=argparse.SUPPRESS, help=text + shown, required=item.name == "name", **keywords
        )
    parser.add_argument("--resume", action="store_true", help="go on after the last finished epoch of the run NAME")


def options_from(args: argparse.Namespace, options: type[Options]) -> Options:
    """Return checked options; with --resume those of the interrupted run. Raises UsageError, InputError."""
    flags = {item.name: getattr(args, item.name) for item in fields(options) if hasattr(args, item.name)}
    given = _checked(options(**flags))
    if not args.resume:
        if given.run_dir.exists():
            raise UsageError(f"the run {given.run_dir} exists; give another --name, or --resume to go on with it")
        return given
    saved = _saved(given)
    for name, value in flags.items():
        if name not in FREE_WHEN_RESUMED and value != getattr(saved, name):
            flag = name.replace("_", "-")
            raise UsageError(f"{given.run_dir} was started with another --{flag}; leave it out, or start a new run")
    free = {name: flags[name] for name in FREE_WHEN_RESUMED if name in flags}
    return replace(saved, **free)


def save_options(options: FitOptions) -> None:
    """Make the run's folder and write its options there. Raises ResourceError where that cannot be."""
    try:
        options.run_dir.mkdir(parents=True, exist_ok=True)
        (options.run_dir / OPTIONS_FILE).write_text(json.dumps(asdict(options), indent=1) + "\n")
    except OSError as error:
        raise ResourceError(
            f"cannot write the run {options.run_dir} ({error.strerror}); choose another --out"
        ) from error


def _saved(given: Options) -> Options:
    path = given.run_dir / OPTIONS_FILE
    try:
        values: dict[str, Any] = json.loads(path.read_text())
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        return type(given)(**values)
    except OSError as error:
        raise InputError(f"there is no run {given.run_dir} to resume; check --name and --out") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is damaged or of another kind of run ({error}); start a new run") from error


def _checked(options: Options) -> Options:
    at_least_one: Sequence[str] = ("epochs", "batch", "held_out", "lr", "clip")
    for name in at_least_one:
        if getattr(options, name) <= 0:
            raise UsageError(f"--{name.replace('_', '-')} must be more than 0, is {getattr(options, name)}")
    if options.steps_per_epoch < 1:
        raise UsageError(f"--images-per-epoch {options.images_per_epoch} is less than one --batch of {options.batch}")
    if min(options.workers, options.threads, options.weight_decay, options.seed) < 0:
        raise UsageError("--workers, --threads, --weight-decay and --seed cannot be negative")
    if not 1 <= options.margin <= 4:
        raise UsageError(f"--margin must be within 1..4, is {options.margin}")
    if not options.name or "/" in options.name:
        raise UsageError(f"--name must be a plain name, is {options.name!r}")
    return options


def _shown(value: Any) -> str:
    return "-".join(map(str, value)) if isinstance(value, tuple) else str(value)
