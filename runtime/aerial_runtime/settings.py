"""What a setting may be: one description serves the flag, the key of the TOML file, `--help` and the docs."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aerial_runtime.errors import UsageError

CONTROL = re.compile(r"[\x00-\x1f\x7f]")  # in no name of anything, and the operating system refuses the first


@dataclass(frozen=True)
class Kind:
    """A kind of value.

    metavar: stands for it in --help; empty for a switch. allowed: what to give, in words. parse: the text of a flag
    -> what TOML would hold. check: what TOML holds -> the field's value. Both raise ValueError for what is not allowed.
    show: the field's value -> what TOML would hold. many: a flag to be repeated, an array in TOML. limits: of a number,
    with its unit.
    """

    metavar: str
    allowed: str
    check: Callable[[Any], Any]
    parse: Callable[[str], Any] = str
    show: Callable[[Any], Any] = lambda value: value
    many: bool = False
    limits: str = ""

    def read(self, value: Any) -> Any:
        """Return the field's value of what a TOML file holds. Raises ValueError."""
        if not self.many:
            return self.check(value)
        return self.check(value if isinstance(value, list) else [value])


@dataclass(frozen=True)
class Setting:
    """One row of the table. default: in words where the value would not tell. in_file: whether the file may hold it."""

    name: str
    kind: Kind
    help: str
    group: str
    default: str
    in_file: bool

    @property
    def flag(self) -> str:
        """The flag, with its dashes."""
        return "--" + self.name.replace("_", "-")

    def parse(self, text: str) -> Any:
        """Return what TOML would hold for the text of a flag. Raises UsageError."""
        value: Any = text
        try:
            value = self.kind.parse(text)
            self.kind.read(value)
        except ValueError as error:
            raise UsageError(f"{self.refusal(self.flag, value)}; see --help") from error
        return value

    def refusal(self, name: str, value: Any) -> str:
        """Return the sentence for a value that cannot be."""
        return f"{name} cannot be {value!r:.200}; give {self.kind.allowed}"


REQUIRED: Any = dataclasses.MISSING  # as a default: there is none


def setting(default: Any, kind: Kind, help: str, group: str, *, said: str | None = None, in_file: bool = True) -> Any:
    """Return the dataclass field of a setting. said: the default in words."""
    if said is None:
        said = "off" if default is False else toml_value(kind.show(default))
    metadata = {"kind": kind, "help": help, "group": group, "default": said, "in_file": in_file}
    if default is REQUIRED:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default_factory=lambda: default, metadata=metadata)  # a dict may be one


def settings_of(table: Any) -> list[Setting]:
    """Return the rows of a dataclass whose fields were made by `setting`."""
    return [Setting(field.name, **field.metadata) for field in dataclasses.fields(table)]


def toml_value(value: Any) -> str:
    """Return a value as TOML writes it. Raises UsageError for text that TOML cannot hold."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"{value!r}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(toml_value, value))}]"
    text = str(value)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{text!r} is no UTF-8, which TOML asks for; rename the file, or give it as a flag") from error
    return json.dumps(text, ensure_ascii=False)


def number(low: float, high: float, unit: str = "") -> Kind:
    """A number from `low` to `high`."""

    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise ValueError
        return float(value)

    limits = f"{low:g} to {high:g} {unit}".rstrip()
    return Kind(unit.upper() or f"{low:g}..{high:g}", f"a number from {limits}", check, float, limits=limits)


def whole(low: int, high: int, unit: str = "") -> Kind:
    """A whole number from `low` to `high`."""

    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError
        return value

    limits = f"{low} to {high} {unit}".rstrip()
    return Kind(unit.upper() or "N", f"a whole number from {limits}", check, int, limits=limits)


def text(metavar: str, allowed: str, pattern: str = r".+") -> Kind:
    """A text that the pattern matches whole."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or CONTROL.search(value) or not re.fullmatch(pattern, value):
            raise ValueError
        return value

    return Kind(metavar, allowed, check)


def path(metavar: str = "FILE", allowed: str = "the path of a file") -> Kind:
    """A path, which need not be there."""
    plain = text(metavar, allowed)
    return Kind(metavar, allowed, lambda value: Path(plain.check(value)), show=str)


def switch() -> Kind:
    """On or off."""

    def check(value: Any) -> bool:
        if not isinstance(value, bool):
            raise ValueError
        return value

    return Kind("", "true or false", check)


def size() -> Kind:
    """Width and height in pixels, as WxH."""

    def check(value: Any) -> tuple[int, int]:
        match = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", value) if isinstance(value, str) else None
        width, height = (int(side) for side in match.groups()) if match else (0, 0)
        if not width or not height:
            raise ValueError
        return width, height

    return Kind(
        "WxH", "width and height in pixels, such as 1024x1024", check, show=lambda value: "x".join(map(str, value))
    )


def many(kind: Kind) -> Kind:
    """Any number of values, as a tuple."""
    return dataclasses.replace(
        kind,
        check=lambda values: tuple(map(kind.check, values)),
        show=lambda values: [kind.show(value) for value in values],
        many=True,
    )


def shares(all_names: str) -> Kind:
    """Names with a number from 0 to 1 each, as a dict; a number without a name is that of `all_names`."""

    def check(values: Sequence[Any]) -> Mapping[str, float]:
        found: dict[str, float] = {}
        for value in values:
            name, _, share = str(value).rpartition("=")
            if isinstance(value, bool) or CONTROL.search(name) or not 0 <= float(share) <= 1:
                raise ValueError
            found[name or all_names] = float(share)
        return found

    def show(values: Mapping[str, float]) -> list[str]:
        return [f"{share!r}" if name == all_names else f"{name}={share!r}" for name, share in values.items()]

    return Kind("[HEAD=]0..1", "a number from 0 to 1, or HEAD=0..1", check, show=show, many=True)
