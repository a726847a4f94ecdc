"""`aerial-preflight`: would this configuration fly, here and now? A row for each thing, go or no-go."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Final

import msgspec

from aerial_runtime.config import Config, config_of, config_parser, toml_of
from aerial_runtime.daemon import quieten_opencv
from aerial_runtime.errors import AerialError, CheckError, run_command
from aerial_runtime.pipeline import Pipeline
from aerial_runtime.preflight_checks import (
    Check,
    Seen,
    check_camera,
    check_clock,
    check_device,
    check_metrics,
    check_models,
    check_output,
    check_record,
    check_sockets,
    check_speed,
    check_targets,
    check_temperature,
    judged,
)
from aerial_runtime.say import say

SECONDS: Final = 3.0  # of the camera, and at most of the models


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run_command("aerial-preflight", lambda: _command(argv))


def _command(argv: Sequence[str] | None) -> int:
    about = "Check everything that a flight with these settings needs: go (exit code 0) or no-go (6)."
    parser = config_parser("aerial-preflight", about)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    given = parser.parse_args(argv)
    config = config_of(given)
    if config.print_config:
        say(toml_of(config))
        return 0
    return dry_run(config, as_json="json" in given)


def dry_run(config: Config, as_json: bool = False) -> int:
    """Print the rows as they come; return 0. Raises CheckError where one is a no-go."""
    checks: list[Check] = []
    for check in run_checks(config, SECONDS):
        checks.append(check)
        if not as_json:
            say(line(check))
    failed = [check.what for check in checks if not check.go]
    if as_json:
        say(msgspec.json.encode({"go": not failed, "checks": checks}).decode())
    if failed:
        raise CheckError(f"no-go: {len(failed)} of {len(checks)} checks failed ({', '.join(failed)}); see the remedies")
    if not as_json:
        say(f"go: {len(checks)} checks passed")
    return 0


def preflight(config: Config, seconds: float = SECONDS) -> list[Check]:
    """Return the rows of a configuration. seconds: of the camera, and at most of the models."""
    return list(run_checks(config, seconds))


def line(check: Check) -> str:
    """Return a row as text: one line, for a no-go with a second one that says what to do."""
    limit = f"  [{check.limit}]" if check.limit else ""
    remedy = "" if check.go else f"\n{'':<20}{check.remedy}"
    return f"{'go' if check.go else 'NO-GO':<6} {check.what:<12} {check.measured}{limit}{remedy}"


def run_checks(config: Config, seconds: float) -> Iterator[Check]:
    """Make the rows one after another, and leave nothing open."""
    quieten_opencv()
    seen = Seen()
    pipelines: list[Pipeline] = []

    def models(stack: ExitStack) -> Check:
        check, pipeline = check_models(config, stack)
        pipelines.append(pipeline)
        return check

    with ExitStack() as whole:
        yield _row("clock", lambda _: check_clock(config, time.time()))
        yield _row("temperature", lambda _: check_temperature())
        yield _row("camera", lambda _: check_camera(config, seconds, seen))
        yield _kept("models", models, whole)
        if pipelines:
            yield _row("device", lambda _: check_device(config, pipelines[0]))
            yield _row("speed", lambda _: check_speed(pipelines[0], seconds, seen))
        yield _row("sockets", lambda stack: check_sockets(config, stack))
        if (port := config.metrics_port) is not None:
            yield _row("metrics", lambda _: check_metrics(port))
        if config.output is not None:
            yield _row("output", lambda stack: check_output(config, seen, stack))
        if (targets := config.targets) is not None:
            yield _row("targets", lambda _: check_targets(config, targets))
        if (record := config.record) is not None:
            yield _row("record", lambda _: check_record(config, record))
        if config.inject:
            problem = "faults are injected on purpose, for a rehearsal; leave out --inject to fly"
            yield judged("rehearsal", " ".join(config.inject), "no --inject", problem)


def _row(what: str, check: Callable[[ExitStack], Check]) -> Check:
    """Make a row, and close what it opened."""
    with ExitStack() as stack:
        return _kept(what, check, stack)


def _kept(what: str, check: Callable[[ExitStack], Check], stack: ExitStack) -> Check:
    """Make a row; an error is a no-go whose sentence says what to do."""
    try:
        return check(stack)
    except AerialError as error:
        return judged(what, "failed", "", str(error))
