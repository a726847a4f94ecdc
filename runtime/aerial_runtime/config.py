"""What the daemon is asked to do: flags, and a TOML file that flags override."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec

from aerial_runtime import __version__
from aerial_runtime.errors import InputError, UsageError
from aerial_runtime.segment import MAX_CANDIDATES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SHIPPED_MODELS = Path(str(files("aerial_runtime").joinpath("models", "shipped.aerial")))
SEGMENTER_FILE, CLASSIFIER_FILE = "segmenter.onnx", "classifier.onnx"  # in the folder of --models, and in a bundle
DEFAULT_ENDPOINT = "tcp://127.0.0.1:5556"
NO_SOCKET = "none"


@dataclass(frozen=True)
class Config:
    """One flight. Fields are flags and keys of the TOML file at once; limits are checked for both."""

    camera: Annotated[str, msgspec.Meta(min_length=1)]
    models: Path = SHIPPED_MODELS
    segmenter: Path | None = None
    classifier: Path | None = None
    bind: str = DEFAULT_ENDPOINT
    output: Path | None = None
    overwrite: bool = False
    conf: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    device: Annotated[str, msgspec.Meta(pattern=r"^(auto|cpu|(cuda|tensorrt):[0-9]+)$")] = "auto"
    threads: Annotated[int, msgspec.Meta(ge=1)] | None = None
    source: str | None = None
    max_candidates: Annotated[int, msgspec.Meta(ge=1)] = MAX_CANDIDATES
    quiet: bool = False


def parse_config(argv: Sequence[str] | None = None) -> Config:
    """Read the command line, and the file that `--config` names.

    Raises UsageError (flags, keys, values) or InputError (the file). `--help` and `--version` end the process.
    """
    flags = vars(_parser().parse_args(argv))
    file: Path | None = flags.pop("config", None)
    settings = (_read_toml(file) if file else {}) | flags
    if "camera" not in settings:
        raise UsageError("no --camera is given; name a folder, an image, a video file, /dev/videoN, or demo")
    try:
        config = msgspec.convert(settings, Config, dec_hook=lambda kind, value: kind(value))
    except msgspec.ValidationError as error:
        reason, _, name = str(error).partition(" - at `$.")
        name = name.rstrip("`")
        raise UsageError(
            f"--{name.replace('_', '-')} cannot be {settings.get(name)!r}: {reason}; see --help"
        ) from error
    _check_output(config)
    return config


def _check_output(config: Config) -> None:
    """Raise UsageError where --output is a file that this flight reads: --overwrite would destroy it."""
    read = [
        ("--camera", Path(config.camera)),
        ("--models", config.models),
        ("--segmenter", config.segmenter or config.models / SEGMENTER_FILE),
        ("--classifier", config.classifier or config.models / CLASSIFIER_FILE),
    ]
    for flag, path in read:
        if config.output is not None and _is_same_file(config.output, path):
            raise UsageError(f"--output {config.output} is also the file of {flag}; give another --output")


def _is_same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one of them is missing
        return False


def _read_toml(path: Path) -> dict[str, Any]:
    """Return field name -> value of a config file whose keys are flags without dashes in front."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the config file {path} ({error.strerror}); check --config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"the config file {path} is not valid TOML ({error}); correct it") from error
    known = [field.name for field in fields(Config)]
    settings = {key.replace("-", "_"): value for key, value in table.items()}
    for key in settings.keys() - known:
        near = difflib.get_close_matches(key, known, n=1, cutoff=0)[0]
        raise UsageError(f"the config file {path} has an unknown key {key!r}; the nearest known one is {near!r}")
    return settings


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one sentence, which names the nearest option for one that there is not."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse; raise UsageError for what is unknown."""
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            near = difflib.get_close_matches(unknown[0].partition("=")[0], _flags_of(self), n=1)
            hint = f" (did you mean {near[0]}?)" if near and unknown[0].startswith("--") else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return found

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        raise UsageError(f"{message}; see --help")


def _flags_of(parser: argparse.ArgumentParser) -> list[str]:
    """Return the options of a parser and of all its subcommands."""
    flags: list[str] = []
    for action in parser._actions:
        flags += action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for subcommand in action.choices.values():
                flags += _flags_of(subcommand)
    return flags


def _parser() -> Parser:
    """Return the parser. Flags not given stay absent, so that the config file's values and the defaults stand."""
    parser = Parser(
        prog="aerial-runtime",
        description="Find and read targets in camera frames; publish aerial.detections/1 for every frame.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--camera",
        metavar="URI",
        help="demo, an image file, a folder, a glob, a video file, /dev/videoN or N (required)",
    )
    add(
        "--models",
        type=Path,
        metavar="FILE.aerial",
        help="bundle of both models, or a folder with segmenter.onnx and classifier.onnx (default: the shipped bundle)",
    )
    add("--segmenter", type=Path, metavar="FILE", help="segmenter model (default: the one in --models)")
    add("--classifier", type=Path, metavar="FILE", help="classifier model (default: the one in --models)")
    add("--bind", metavar="ENDPOINT", help=f"ZeroMQ endpoint to publish on, or none (default: {DEFAULT_ENDPOINT})")
    add("--output", type=Path, metavar="FILE", help="also write the messages to this file, one JSON object a line")
    add("--overwrite", action="store_true", help="replace an existing --output")
    add(
        "--conf",
        type=float,
        metavar="0..1",
        help="confidence from which a candidate is a target (default: the model's)",
    )
    add(
        "--device",
        metavar="NAME",
        help="auto, cpu, cuda:N or tensorrt:N; a named device never falls back (default: auto)",
    )
    add("--threads", type=int, metavar="N", help="CPU threads for the models, at most (default: all cores)")
    add("--source", metavar="NAME", help="name of this camera in messages (default: from --camera)")
    add("--max-candidates", type=int, metavar="N", help=f"candidates read per frame (default: {MAX_CANDIDATES})")
    add("--config", type=Path, metavar="FILE", help="TOML file with these flags as keys; flags override it")
    add("--quiet", action="store_true", help="no line per frame, only the summary")
    add("--version", action="version", version=f"%(prog)s {__version__}")
    return parser
