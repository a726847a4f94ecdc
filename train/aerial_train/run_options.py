"""Where a run's options come from, the strongest first: flags, the config file, the recipe, the defaults.

A resumed run keeps what it was started with, but for what changes only how fast it is.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Final

import tomllib

from aerial_runtime.errors import InputError, ResourceError, UsageError
from aerial_train.choices import nearest
from aerial_train.data.manifest import write_whole
from aerial_train.options import FitOptions, Options, checked, flag_of, is_main_process

OPTIONS_FILE: Final = "options.json"
# What may differ in a resumed run: it changes how fast the run is, not what it learns. Losses that look at a batch as a
# whole see another share of it with another number of devices; a run that must go on elsewhere is worth that.
FREE_WHEN_RESUMED: Final = ("workers", "threads", "out", "name", "devices", "nodes", "accelerator")


def add_options(parser: argparse.ArgumentParser, options: type[FitOptions], *, can_resume: bool = True) -> None:
    """Add an option per field, --config and --resume. Help shows the defaults."""
    groups: dict[str, Any] = {}
    for item in fields(options):
        keywords = dict(item.metadata)
        text, title = keywords.pop("help"), keywords.pop("group")
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
        if keywords.get("type", type(item.default)) is bool:
            keywords = {"action": argparse.BooleanOptionalAction}
        else:
            keywords.setdefault("type", type(item.default))
            if "choices" not in keywords:
                keywords.setdefault("metavar", "X" if isinstance(item.default, float) else "N")
        shown = "" if item.default in ("", (), False, None) else f" ({_shown(item.default)})"
        # What is not given stays absent: a resumed run must tell a repeated default from none.
        groups[title].add_argument(flag_of(item.name), default=argparse.SUPPRESS, help=text + shown, **keywords)
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
    if getattr(args, "resume", False):
        return _resumed(flags, options)
    given = checked(options(**_recipe_options(options, flags) | flags))
    if is_new_run and given.run_dir.exists() and is_main_process():
        raise UsageError(f"the run {given.run_dir} exists; give another --name, or --resume to go on with it")
    return given


def _resumed(flags: dict[str, Any], options: type[Options]) -> Options:
    """Return the options of an interrupted run, with those of `flags` that may differ."""
    # Of what is given only the place is looked at: that many devices must share the run's batch, not the default one.
    run_dir = checked(options(**{name: flags[name] for name in ("name", "out") if name in flags})).run_dir
    saved = saved_options(run_dir, options)
    for name, value in flags.items():
        if name not in FREE_WHEN_RESUMED and value != getattr(saved, name):
            raise UsageError(f"{run_dir} was started with another {flag_of(name)}; leave it out, or begin a new run")
    free = {name: flags[name] for name in FREE_WHEN_RESUMED if name in flags}
    return checked(replace(saved, **free))


def save_options(options: FitOptions) -> None:
    """Make the run's folder and write its options there. Raises ResourceError where that cannot be."""
    try:
        options.run_dir.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(options), indent=1) + "\n"
        # Whole: a resumed run writes them again, and without them it could not be resumed once more.
        write_whole(options.run_dir / OPTIONS_FILE, lambda file: file.write(text.encode()))
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
    parse: Callable[..., Any] = item.metadata.get("type", type(default))
    text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    found: Any
    try:
        found = {"true": True, "false": False}[text.lower()] if parse is bool else parse(text)
    except (ValueError, KeyError) as error:
        shown = parse() if default is None else default
        raise UsageError(f"{where} cannot be {value!r}; it must be like {_shown(shown)!r}") from error
    choices = item.metadata.get("choices")
    if choices and found not in choices:
        raise UsageError(f"{where} cannot be {found!r}; {nearest(str(found), choices)}")
    return found


def _recipe_options(options: type[FitOptions], flags: dict[str, Any]) -> dict[str, Any]:
    recipes = options.recipes()
    name = flags.get("recipe", options.recipe)
    if recipes and name not in recipes:
        raise UsageError(f"--recipe cannot be {name!r}; {nearest(name, recipes)}")
    return recipes.get(name, {})


def _shown(value: Any) -> str:
    if not isinstance(value, tuple):
        return str(value)
    return ("," if value and isinstance(value[0], float | str) else "-").join(map(str, value))
