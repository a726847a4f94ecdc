"""Read what the daemon is asked to do: flags, and a TOML file that flags override."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from aerial_runtime import BUILD
from aerial_runtime.camera.replay import REPLAY
from aerial_runtime.config_table import ALL_HEADS, DEFAULT_ENDPOINT, NO_SOCKET, SHIPPED_MODELS, Config
from aerial_runtime.errors import InputError, UsageError
from aerial_runtime.settings import Setting, settings_of, toml_value

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SEGMENTER_FILE, CLASSIFIER_FILE = "segmenter.onnx", "classifier.onnx"  # in the folder of --models, and in a bundle
SETTINGS: Final = settings_of(Config)
MAX_FILE_BYTES = 1_000_000  # a config file has a hundredth of it


def parse_config(argv: Sequence[str] | None = None) -> Config:
    """Read the command line, and the file that `--config` names.

    Raises UsageError (flags, keys, values) or InputError (the file). `--help` and `--version` end the process.
    """
    about = "Find and read targets in camera frames; publish aerial.detections/1 for every frame."
    return config_of(config_parser("aerial-runtime", about).parse_args(argv))


def config_of(given: argparse.Namespace) -> Config:
    """Return the configuration of flags that `config_parser` took. Raises UsageError or InputError."""
    flags = vars(given)
    file: Path | None = flags.get("config")
    found = _read_toml(file) if file else {}
    found |= {row.name: row.kind.read(flags[row.name]) for row in SETTINGS if row.name in flags}
    if "camera" not in found:
        raise UsageError("no --camera is given; name a folder, an image, a video file, /dev/videoN, or demo")
    config = Config(**found)
    _check_together(config)
    for flag, path in (("--output", config.output), ("--record", config.record), ("--targets", config.targets)):
        if path is not None:
            _check_written(flag, path, config, file)
    return config


def toml_of(config: Config) -> str:
    """Return the configuration as the text of a TOML file, which `--config` reads back to the same.

    What is not set stands as a comment. Raises UsageError for a name that TOML cannot hold.
    """
    lines: list[str] = []
    group = ""
    for row in SETTINGS:
        if not row.in_file:
            continue
        if row.group != group:
            group = row.group
            lines += ["", f"# {group}"]
        value = getattr(config, row.name)
        is_set = value is not None and value != {}
        lines.append(f"{row.name} = {toml_value(row.kind.show(value))}" if is_set else f"# {row.name}: {row.default}")
    return "\n".join(lines[1:])


def _check_together(config: Config) -> None:
    """Raise UsageError where two settings exclude each other."""
    if NO_SOCKET in config.bind and len(config.bind) > 1:
        raise UsageError(f"--bind {NO_SOCKET} stands alone; leave it out, or the endpoints beside it")
    if not config.bind:  # of a file, where every endpoint was taken out
        raise UsageError(f"bind holds no endpoint; name one, or leave it out, or give {NO_SOCKET!r} to mean it")
    if config.targets is not None and not config.track:
        raise UsageError("--targets lists what --no-track does not follow; leave one of them out")
    if config.max_size is not None and config.max_size < config.min_size:
        raise UsageError(
            f"--max-size {config.max_size} is less than --min-size {config.min_size}: nothing would be reported; "
            "correct one of them"
        )
    written = [path for path in (config.output, config.record, config.targets) if path is not None]
    if len(set(map(os.path.realpath, written))) < len(written):
        raise UsageError("two of --output, --record and --targets are one file; give each its own")
    if config.tile is not None and config.tile_overlap >= min(config.tile):
        tile = "x".join(map(str, config.tile))
        raise UsageError(
            f"--tile-overlap {config.tile_overlap} is not smaller than the --tile {tile}; give a larger tile"
        )


def _check_written(flag: str, written: Path, config: Config, file: Path | None) -> None:
    """Raise UsageError where a file to write is one that this flight reads: --overwrite would destroy it."""
    read = [
        ("--camera", Path(config.camera.removeprefix(REPLAY))),
        ("--models", config.models),
        ("--segmenter", config.segmenter or config.models / SEGMENTER_FILE),
        ("--classifier", config.classifier or config.models / CLASSIFIER_FILE),
        ("--server-key", config.server_key),
        ("--config", file),
    ]
    for other, path in read:
        if path is not None and _is_same_file(written, path):
            raise UsageError(f"{flag} {written} is also the file of {other}; give another {flag}")


def _is_same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one of them is missing
        return False


def _read_toml(path: Path) -> dict[str, Any]:
    """Return field name -> value of a config file whose keys are flags without dashes in front."""
    try:
        if not path.is_file() and path.exists():  # a pipe would wait for ever, a device never end
            raise InputError(f"the config file {path} is not a regular file; check --config")
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot read the config file {path} ({error.strerror}); check --config") from error
    if len(data) > MAX_FILE_BYTES:
        raise InputError(f"the config file {path} has more than {MAX_FILE_BYTES} bytes; check --config")
    try:
        table = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:  # of the TOML, of its encoding, of a number of too many digits
        raise InputError(f"the config file {path} is not valid TOML ({error}); correct it") from error
    rows = {row.name: row for row in SETTINGS}
    found: dict[str, Any] = {}
    for key, value in table.items():
        row = rows.get(key.replace("-", "_"))
        if row is None or row.name in found:
            raise UsageError(_unknown_key(path, key, row, list(rows)))
        if not row.in_file:
            raise UsageError(f"{key} in the config file {path} would end every flight; give {row.flag} as a flag")
        try:
            found[row.name] = row.kind.read(value)
        except ValueError as error:
            raise UsageError(f"in the config file {path}, {row.refusal(key, value)}") from error
    return found


def _unknown_key(path: Path, key: str, row: Setting | None, known: list[str]) -> str:
    if row is not None:
        return f"the config file {path} has the key {row.name!r} twice, with _ and with -; remove one"
    near = difflib.get_close_matches(key, known, n=1, cutoff=0)[0]
    return f"the config file {path} has an unknown key {key!r:.100}; the nearest known one is {near!r}"


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


def config_parser(command: str, about: str) -> Parser:
    """Return a parser of all settings. A flag not given stays absent, so that the file or the default stands."""
    parser = Parser(
        prog=command,
        description=about,
        epilog="Each flag is also a key of the TOML file, without the dashes in front; --no-NAME undoes a switch "
        "of the file. docs/configuration.md lists them all.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file with these flags as keys")
    parser.add_argument("--version", action="version", version=f"%(prog)s {BUILD}")
    groups: dict[str, Any] = {}
    for row in SETTINGS:
        if row.group not in groups:
            groups[row.group] = parser.add_argument_group(row.group)
        _add_flag(groups[row.group], row)
    return parser


def _add_flag(group: Any, row: Setting) -> None:
    if not row.kind.metavar:
        group.add_argument(row.flag, action="store_true", help=row.help)
        if row.in_file:
            no = f"--no-{row.flag[2:]}"
            group.add_argument(no, dest=row.name, action="store_false", help=argparse.SUPPRESS)
        return
    action = "append" if row.kind.many else "store"
    limits = f"{row.kind.limits}; " if row.kind.limits else ""
    help = f"{row.help} ({limits}default: {row.default})".replace("%", "%%")
    group.add_argument(row.flag, action=action, type=row.parse, metavar=row.kind.metavar, help=help)


__all__ = [
    "ALL_HEADS",
    "CLASSIFIER_FILE",
    "DEFAULT_ENDPOINT",
    "NO_SOCKET",
    "SEGMENTER_FILE",
    "SETTINGS",
    "SHIPPED_MODELS",
    "Config",
    "Parser",
    "config_of",
    "config_parser",
    "parse_config",
    "toml_of",
]
