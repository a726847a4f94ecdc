"""Progress of long work: a bar with the time left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aerial_runtime.say import say

LINE_EVERY_NS = 10_000_000_000


@contextmanager
def progress(text: str, total: int) -> Iterator[Callable[[int], None]]:
    """Give a function that takes how many of `total` are done by now."""
    if sys.stdout is not None and sys.stdout.isatty():
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, transient=True) as bar:
            task = bar.add_task(text, total=total)
            yield lambda done: bar.update(task, completed=done)
        return
    started_ns = last_ns = time.monotonic_ns()

    def line(done: int) -> None:
        nonlocal last_ns
        now_ns = time.monotonic_ns()
        if done and now_ns - last_ns >= LINE_EVERY_NS:
            last_ns = now_ns
            left_s = (now_ns - started_ns) / 1e9 / done * (total - done)
            say(f"{text}: {done} of {total}, {left_s:.0f} s left")

    yield line
