"""`aerial-train overfit`: can this network learn one batch by heart? If not, longer training will not help either.

The check that finds wrong labels, a loss without gradient or a network that is too small before hours are spent.
"""

from __future__ import annotations

import argparse
import math

from aerial_runtime.errors import CheckError, UsageError
from aerial_train.bench import Bench, bench_options
from aerial_train.device import describe_device
from aerial_train.tasks import add_task_arguments, make_job

LINES = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `aerial-train overfit`."""
    for command in add_task_arguments(parser, named=False):
        command.add_argument("--steps", type=int, default=300, metavar="N", help="training steps at most (300)")
        command.add_argument(
            "--at-least", type=float, default=0.9, metavar="X", help="score that must be reached (0.9)"
        )


def run(args: argparse.Namespace) -> int:
    """Learn one batch; return 0 where it is known by heart. Raises CheckError where it is not."""
    if args.steps < LINES or not 0 < args.at_least <= 1:
        raise UsageError(f"--steps must be at least {LINES}, and --at-least within 0..1")
    options = bench_options(args)
    print(describe_device(options))
    job = make_job(options)
    bench = Bench(job.task)
    batch = bench.take(job.train.batch(0, range(options.batch)))
    best, name = -math.inf, job.task.best_by
    for step in range(1, args.steps + 1):
        loss = bench.step(batch)
        if step % max(1, args.steps // LINES):
            continue
        score = bench.score(batch)
        best = max(best, score)
        print(f"step {step:5}  loss {loss:.4f}  {name} {score:.4f}", flush=True)
        if score >= args.at_least:
            print(f"learnt by heart: {name} {score:.4f} on {options.batch} images after {step} steps")
            return 0
    raise CheckError(
        f"{options.batch} images could not be learnt by heart in {args.steps} steps: {name} is {best:.3f}, "
        f"wanted {args.at_least:g}; look at the data with aerial-train inspect, try another --lr or more --steps"
    )
