"""`aerial-train find-lr`: a learning rate to begin with, by Smith's range test (2017): it rises, the loss tells.

Nothing is kept of the search but the curve that `--plot` asks for.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

import numpy as np

from aerial_runtime.errors import CheckError, ResourceError, UsageError
from aerial_train.bench import Bench, bench_options
from aerial_train.device import describe_device
from aerial_train.tasks import add_task_arguments, make_job

SMOOTHING: Final = 0.9  # of the running mean of the loss
DIVERGED: Final = 2.0  # times the first loss above the lowest, which with --learned-weights may be under 0
LINES: Final = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `aerial-train find-lr`."""
    for command in add_task_arguments(parser, named=False):
        add = command.add_argument_group("search").add_argument
        add("--steps", type=int, default=100, metavar="N", help="training steps to take (100)")
        add("--lowest", type=float, default=1e-6, metavar="X", help="learning rate to start at (1e-6)")
        add("--highest", type=float, default=1.0, metavar="X", help="learning rate to end at (1)")
        add("--plot", type=Path, metavar="FILE.png", help="picture of the curve to write")


def run(args: argparse.Namespace) -> int:
    """Search, print what was found; return the exit code. Raises AerialError."""
    if args.steps < LINES or not 0 < args.lowest < args.highest:
        raise UsageError(f"--steps must be at least {LINES}, and --lowest between 0 and --highest")
    options = bench_options(args)
    print(describe_device(options))
    job = make_job(options)
    bench, rates, losses = Bench(job.task), [], []
    images = options.batch * options.accumulate  # of a step
    shares = [group["lr"] / options.lr for group in bench.optimizer.param_groups]  # by --lr-decay
    for step, rate in enumerate(np.geomspace(args.lowest, args.highest, args.steps).tolist()):
        for group, share in zip(bench.optimizer.param_groups, shares, strict=True):
            group["lr"] = rate * share
        starts = range(step * images, (step + 1) * images, options.batch)
        losses.append(bench.step(*(bench.take(job.train.batch(0, range(k, k + options.batch))) for k in starts)))
        rates.append(rate)
        if step % (args.steps // LINES) == 0:
            print(f"  lr {rate:9.2e}  loss {losses[-1]:.4f}", flush=True)
        if not np.isfinite(losses[-1]) or losses[-1] - min(losses) > DIVERGED * losses[0]:
            print(f"  lr {rate:9.2e}  loss {losses[-1]:.4f}: diverged")
            break
    smooth, found = steepest_fall(rates, losses)
    print(f"steepest fall at lr {found:.2g}: with --schedule one-cycle or cosine give up to --lr {10 * found:.2g}")
    if args.plot is not None:
        _plot(rates, smooth, found, args.plot)
    return 0


def steepest_fall(rates: list[float], losses: list[float]) -> tuple[list[float], float]:
    """Return the smoothed losses, and the rate where they fall fastest over the logarithm of the rate.

    Raises CheckError where the loss falls nowhere.
    """
    finite = [loss for loss in losses if np.isfinite(loss)]
    smooth, mean = [], 0.0
    for step, loss in enumerate(finite, 1):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        smooth.append(mean / (1 - SMOOTHING**step))  # unbiased, as Adam's moments are
    # Up to the lowest loss: behind it the network is already falling apart.
    lowest = int(np.argmin(smooth)) if smooth else 0
    if lowest < 2:
        raise CheckError("the loss fell nowhere, so there is nothing to suggest; look at the data, or lower --lowest")
    slope = np.gradient(np.array(smooth[: lowest + 1]), np.log(rates[: lowest + 1]))
    return smooth, rates[int(np.argmin(slope))]


def _plot(rates: list[float], smooth: list[float], found: float, path: Path) -> None:
    from matplotlib.figure import Figure  # late: it takes a second

    figure = Figure(layout="constrained")
    axes = figure.add_subplot(xscale="log", xlabel="learning rate", ylabel="smoothed loss")
    axes.plot(rates[: len(smooth)], smooth)
    axes.axvline(found, linestyle="--")
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise ResourceError(f"cannot write {path} ({error}); give a --plot FILE.png") from error
