"""`aerial-export model.pt`: a checkpoint becomes an ONNX file that is proven to agree with it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from aerial_runtime import __version__
from aerial_runtime.config import Parser
from aerial_runtime.errors import ResourceError, UsageError, run_command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `aerial-export`; return its exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    return run_command("aerial-export", lambda: _run(words))


def _run(words: list[str]) -> int:
    parser = Parser(prog="aerial-export", description=__doc__)
    parser.add_argument("checkpoint", type=Path, metavar="MODEL.pt", help="best.pt or last.pt of a training run")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="MODEL.onnx",
        help="file to write (MODEL.onnx beside MODEL.pt, replaced once the new one is proven)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing --output")
    parser.add_argument("--version", action="version", version=f"aerial {__version__}")
    args = parser.parse_args(words)
    return _export(args.checkpoint, args.output, args.overwrite)


def _export(checkpoint: Path, output: Path | None, overwrite: bool) -> int:
    if output is not None and output.exists() and output.samefile(checkpoint):
        raise UsageError(f"the output {output} is the checkpoint itself; give another --output")
    if output is not None and output.exists() and not overwrite:
        raise UsageError(f"the output {output} exists; give --overwrite, or another --output")
    # Late: torch takes seconds to import, and --help needs none of it.
    try:
        from aerial_export.to_onnx import export_checkpoint
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("aerial_"):
            raise
        raise ResourceError(f"the package {error.name} is missing; pip install 'aerial[export]'") from error

    written = output or checkpoint.with_suffix(".onnx")
    report = export_checkpoint(checkpoint, written)
    print(report)
    print(f"wrote {written} ({written.stat().st_size / 1e6:.2f} MB)")
    return 0
