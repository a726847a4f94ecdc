"""How much of the training's speed is left when scenes are rendered beside it, on this machine.

    python tests/bench/bench_training.py [--backgrounds PHOTOS/] [--workers 0,1,2,4]

For the default classifier and segmenter: images/s of the same steps on one cached batch, with live scenes and from a
written dataset, each with 0-4 workers. The cached batch is measured before each of them, and the share is that of the
pair, since machines change their speed meanwhile; medians over rounds. Memory of all processes.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch

from aerial_train import cli
from aerial_train.bench import Bench
from aerial_train.feed import EpochSteps, train_loader
from aerial_train.fit import Job
from aerial_train.fit_classifier import ClassifierOptions
from aerial_train.fit_segmenter import SegmenterOptions
from aerial_train.options import FitOptions
from aerial_train.tasks import make_job

WARM_UP_STEPS = 6  # the first steps take what was made ahead


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backgrounds", default="", help="folder of photos; procedural terrain without")
    parser.add_argument("--task", choices=("classifier", "segmenter"), help="measure this one alone")
    parser.add_argument("--workers", default="0,1,2,4", help="numbers of workers to try")
    parser.add_argument("--steps", type=int, default=24, help="steps of one measurement")
    parser.add_argument("--rounds", type=int, default=3, help="times that everything is measured, in turns")
    parser.add_argument("--count", type=int, default=0, help="images of the written dataset; 0: what the steps take")
    args = parser.parse_args()
    workers = [int(number) for number in args.workers.split(",")]
    options: tuple[FitOptions, ...] = (
        ClassifierOptions(name="bench", backgrounds=args.backgrounds),
        SegmenterOptions(name="bench", backgrounds=args.backgrounds),
    )
    with tempfile.TemporaryDirectory() as folder:
        for each in options:
            if args.task and make_job(each).task.card.kind != args.task:
                continue
            measure(each, workers, args, Path(folder))


def measure(options: FitOptions, workers: list[int], args: argparse.Namespace, folder: Path) -> None:
    """Print the table of one task."""
    kind = "crops" if isinstance(options, ClassifierOptions) else "frames"
    steps: int = args.steps
    count = args.count or 2 * options.batch * (steps + WARM_UP_STEPS)
    written = folder / kind
    words = ["dataset", "--kind", kind, "--count", str(count), "--out", str(written), "--val", "0.1"]
    if cli.main([*words, *(["--backgrounds", options.backgrounds] if options.backgrounds else [])]):
        raise SystemExit("the dataset could not be written")
    live = make_job(options)
    jobs = {"live": live, "dataset": make_job(replace(options, data=str(written)))}
    bench = Bench(live.task)
    cached = bench.take(live.train.batch(0, range(options.batch)))
    rates: dict[str, list[float]] = {}
    shares: dict[str, list[float]] = {}
    memory: dict[str, float] = {}
    loaders = {f"{name}, {n} workers": (job, n) for name, job in jobs.items() for n in workers}
    for _ in range(args.rounds):
        for name, (job, number) in loaders.items():
            best = images_per_s(options, steps, lambda: bench.step(cached))
            batches = endless(job, options, number)
            step = stepper(bench, batches)
            for _ in range(WARM_UP_STEPS):
                step()
            rate = images_per_s(options, steps, step)
            memory[name] = max(memory.get(name, 0.0), memory_mib())
            batches.close()
            rates.setdefault("cached batch", []).append(best)
            rates.setdefault(name, []).append(rate)
            shares.setdefault(name, []).append(rate / best)
    print(f"\n{live.task.card.kind}: batches of {options.batch}, {torch.get_num_threads()} threads")
    print(f"{'batches from':<22}{'images/s':>10}{'of cached':>11}{'MiB':>8}")
    for name, values in rates.items():
        share = f"{statistics.median(shares[name]):.2f}x" if name in shares else ""
        print(f"{name:<22}{statistics.median(values):>10.0f}{share:>11}{memory.get(name, 0.0):>8.0f}", flush=True)


def endless(job: Job, options: FitOptions, workers: int) -> Iterator[dict[str, object]]:
    """Yield batches as the training would take them."""
    loader = train_loader(job.train, EpochSteps(10_000, options.batch), workers)
    yield from loader


def stepper(bench: Bench, batches: Iterator[dict[str, object]]) -> Callable[[], float]:
    """Return what takes the next batch and learns from it."""
    return lambda: bench.step(bench.task.transfer_batch_to_device(next(batches), bench.device, 0))


def images_per_s(options: FitOptions, steps: int, step: Callable[[], float]) -> float:
    """Return the rate over some steps."""
    started_ns = time.monotonic_ns()
    for _ in range(steps):
        step()
    return options.batch * steps / ((time.monotonic_ns() - started_ns) / 1e9)


def memory_mib() -> float:
    """Return the proportional share of memory of this process and its children, MiB (Linux)."""
    total = 0
    me = Path("/proc/self")
    children = [child for task in (me / "task").iterdir() for child in (task / "children").read_text().split()]
    for process in ("self", *children):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


if __name__ == "__main__":
    main()
