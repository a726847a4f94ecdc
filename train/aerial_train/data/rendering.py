"""Samples made by several processes, in order: what comes out does not depend on how many there are."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any, TypeVar

import cv2

from aerial_runtime.errors import ResourceError

Part = TypeVar("Part")
AHEAD = 3  # chunks a process may be ahead of the writer: rendered pictures shall not pile up in memory

_make: Callable[[range], Any]  # of a forked process


def rendered(make: Callable[[range], Part], count: int, chunk: int, workers: int) -> Generator[Part]:
    """Return a generator of make(range) for all chunks of `count` indices, in order; closing it ends the processes.

    Processes are forked now: they share what `make` has read, and no progress bar's thread is copied with them.
    """
    chunks = (range(start, min(start + chunk, count)) for start in range(0, count, chunk))
    if workers <= 1:
        return (make(indices) for indices in chunks)
    cv2.setNumThreads(1)  # before any worker is forked, see aerial_train.fit.prepare
    context = multiprocessing.get_context("fork")
    pool = ProcessPoolExecutor(workers, context, _start_worker, (make,))
    waiting = deque(pool.submit(_call, indices) for indices in islice(chunks, AHEAD * workers))
    return _in_order(pool, waiting, chunks)


def _in_order(pool: ProcessPoolExecutor, waiting: deque[Future[Any]], chunks: Iterator[range]) -> Generator[Any]:
    try:
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(_call, indices) for indices in islice(chunks, 1))
    except BrokenProcessPool as error:
        raise ResourceError(
            "a process that draws was killed, perhaps for want of memory; what was drawn by then is kept; begin anew "
            "with fewer --workers"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker(make: Callable[[range], Any]) -> None:
    """Ctrl-C is for the parent, which stops the workers in order; SIGTERM just ends one: so the pool does it too."""
    global _make
    _make = make
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _call(indices: range) -> Any:
    return _make(indices)
