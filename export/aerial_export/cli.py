"""`aerial-export`: a model becomes what flies, proven to agree with what was trained; or there is no file."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from aerial_runtime import __version__
from aerial_runtime.config import Parser
from aerial_runtime.contract import MAX_FRAME_MEGAPIXELS
from aerial_runtime.errors import ResourceError, UsageError, run_command
from aerial_runtime.say import say, utf8
from aerial_runtime.segment import MAX_CANDIDATES

FRAME_SIZE = (1920, 1080)
BATCHES = (1, 10, 50)
OF_EXPORTS = ("output", "overwrite", "no_fp16", "engine")
MAX_BATCH = 10_000  # the most that --max-candidates of a flight allows


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `aerial-export`; return its exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    return run_command("aerial-export", lambda: _run(_parser().parse_args(words)))


def _parser() -> Parser:
    parser = Parser(prog="aerial-export", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("model", nargs="?", type=Path, metavar="MODEL", help="export this: a checkpoint (.pt), or an FP32 .onnx file")
    add(
        "-o",
        "--output",
        type=Path,
        metavar="NAME.onnx",
        help="file to write, the others beside it (NAME.onnx beside MODEL, replaced once the new ones are proven)",
    )
    add("--overwrite", action="store_true", help="replace what exists under --output")
    add("--no-fp16", action="store_true", help="the FP32 file alone, for flights on a CPU: no FP16, so no engine")
    add("--engine", action="store_true", help="build this machine's TensorRT engine, or fail (built where TensorRT is)")
    add(
        "--max-crops",
        type=_positive,
        default=MAX_CANDIDATES,
        metavar="N",
        help="largest batch of a classifier's engine (100)",
    )
    add(
        "--workspace", type=_positive, default=1024, metavar="MIB", help="GPU memory a layer may use while built (1024)"
    )
    add("--verify", type=Path, metavar="FILE", help="compare a file with the goldens beside it again, on this machine")
    add("--inspect", type=Path, metavar="FILE", help="print what a file is: card, inputs, outputs, cost, ancestors")
    add("--benchmark", nargs="+", type=Path, metavar="FILE", help="measure files here: ms per frame and per crop")
    add(
        "--frame-size", action="append", type=_frame_size, metavar="WxH",
        help="frames of an engine, --inspect and --benchmark in pixels, repeatable for the last (1920x1080)",
    )  # fmt: skip
    add(
        "--batch",
        action="append",
        type=_batch,
        metavar="N",
        help="crops a call for --benchmark, repeatable (1 10 50)",
    )
    add("--rounds", type=_positive, default=30, metavar="N", help="calls of each kind for --benchmark (30)")
    add("--device", type=_device, metavar="NAME", help="cpu, cuda:N or tensorrt:N (--verify: cpu, --benchmark: all)")
    add("--version", action="version", version=f"aerial {__version__}")
    return parser


def _run(args: argparse.Namespace) -> int:
    asked = [name for name in ("model", "verify", "inspect", "benchmark") if getattr(args, name) is not None]
    if len(asked) != 1:
        raise UsageError("give one of MODEL, --verify FILE, --inspect FILE, --benchmark FILE...; see --help")
    _check_together(args)
    sizes: list[tuple[int, int]] = args.frame_size or [FRAME_SIZE]
    try:
        if args.verify is not None:
            from aerial_export.verify import verify

            verify(args.verify, args.device, _tell)
        elif args.inspect is not None:
            _tell(_inspect(args.inspect, sizes[0]))
        elif args.benchmark is not None:
            from aerial_export.benchmark import benchmark

            _tell(benchmark(args.benchmark, args.device, sizes, args.batch or BATCHES, args.rounds, _tell))
        else:
            _export(args)
    except ModuleNotFoundError as error:  # onnx above all: verifying and measuring do without
        if (error.name or "").startswith("aerial_"):
            raise
        extra = "cpu" if error.name == "onnxruntime" else "export"  # which brings no inference engine
        raise ResourceError(
            f"the package {error.name} is missing; in the checkout, pip install '.[{extra}]'"
        ) from error
    return 0


def _check_together(args: argparse.Namespace) -> None:
    """Raise UsageError where something that was asked for would silently be left out."""
    unused = [f"--{name.replace('_', '-')}" for name in OF_EXPORTS if args.model is None and getattr(args, name)]
    if unused:
        raise UsageError(f"{' and '.join(unused)} can be given with a MODEL to export alone; leave it out")
    if args.benchmark is None and len(args.frame_size or ()) > 1:
        raise UsageError("several --frame-size are for --benchmark alone; give one")


def _inspect(path: Path, frame_size: tuple[int, int]) -> str:
    if path.suffix == ".pt":
        from aerial_export.inspect_checkpoint import inspect_checkpoint

        return inspect_checkpoint(path, frame_size)
    from aerial_export.inspect_model import inspect

    return inspect(path, frame_size)


def _export(args: argparse.Namespace) -> None:
    from aerial_export.artefacts import FP16_SUFFIX, artefact_names, export_model

    source: Path = args.model
    output: Path | None = args.output
    if source.suffix not in (".pt", ".onnx"):
        raise UsageError(f"cannot export {source}; give a checkpoint (.pt) or an FP32 .onnx file")
    if output is not None and output.suffix != ".onnx":
        raise UsageError(f"the output {output} must end in .onnx")
    written = output or source.with_suffix(".onnx")
    if utf8(written.name) != written.name:  # before minutes are spent
        raise UsageError(f"the name {written.name} is no UTF-8, as report and cards must be; give another --output")
    if args.no_fp16:
        stale = written.with_name(written.stem + FP16_SUFFIX)
        if args.engine:
            raise UsageError("an engine is FP16; leave out --engine or --no-fp16")
        if stale.exists():
            raise UsageError(f"{stale} would be left of an earlier export; remove it, or give another --output")
    if output is not None and not args.overwrite:
        for path in map(output.with_name, artefact_names(output.stem)):
            if path.exists():
                raise UsageError(f"the output {path} exists; give --overwrite, or another --output")
    # Of a file that stays where it is, the engine alone may be wanted: then what is there already is not made again.
    if written != source or not args.engine:
        for path in export_model(source, written, _tell, fp16=not args.no_fp16):
            _tell(f"wrote {path} ({path.stat().st_size / 1e6:.2f} MB)")
    if not args.no_fp16:
        _make_engine(written, args)


def _make_engine(onnx: Path, args: argparse.Namespace) -> None:
    """Build the engine where that is asked for, or where TensorRT is; otherwise say why there is none."""
    from aerial_export.make_engine import make_engine
    from aerial_export.to_engine import EngineOptions

    size = (args.frame_size or [FRAME_SIZE])[0]
    options = EngineOptions(size, args.max_crops, args.workspace, args.device or "auto")
    try:
        engine = make_engine(onnx, options, _tell)
    except ResourceError as error:
        if args.engine:
            raise
        _tell(f"no engine was built: {error}; where it flies, run: aerial-export {onnx.name} --engine")
        return
    _tell(f"the engine is {engine} ({engine.stat().st_size / 1e6:.2f} MB)")  # which may have been there already


def _tell(text: str) -> None:
    say(text)


def _frame_size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size in pixels such as 1920x1080")
    width, height = int(match[1]), int(match[2])
    if width * height > MAX_FRAME_MEGAPIXELS * 1_000_000:  # none flies, and --benchmark would want the memory for it
        raise argparse.ArgumentTypeError(f"{text} is more than {MAX_FRAME_MEGAPIXELS} megapixels")
    return width, height


def _device(text: str) -> str:
    if re.fullmatch(r"cpu|(cuda|tensorrt):\d+", text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not cpu, cuda:N or tensorrt:N")
    return text


def _batch(text: str) -> int:
    count = _positive(text)
    if count > MAX_BATCH:  # no flight has as many, and --benchmark would want the memory for them
        raise argparse.ArgumentTypeError(f"{text} is more than {MAX_BATCH} crops")
    return count


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)
