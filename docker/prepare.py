"""First start on a new GPU: unpack the models, build this device's engines and verify them.

Leaves segmenter.engine and classifier.engine in the folder, links to what was built for this GPU and this TensorRT.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from aerial_export.cli import main as aerial_export
from aerial_export.goldens import SUFFIX as GOLDENS_SUFFIX
from aerial_export.new_files import new_files
from aerial_runtime.backends.nvidia import import_libraries
from aerial_runtime.backends.trt import find_engine
from aerial_runtime.bundle import Bundle
from aerial_runtime.config import SHIPPED_MODELS, Parser
from aerial_runtime.engine_card import ENGINE_SUFFIX, card_path
from aerial_runtime.errors import ResourceError, run_command
from aerial_runtime.say import say


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run_command("prepare", lambda: _command(arguments))


def _command(arguments: Sequence[str] | None) -> int:
    parser = Parser(prog="prepare", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--models", type=Path, required=True, metavar="DIR", help="folder to leave models and engines in")
    add("--bundle", type=Path, default=SHIPPED_MODELS, metavar="FILE.aerial", help="models to take (the shipped ones)")
    add("--frame-size", default="1920x1080", metavar="WxH", help="of the camera, the only one that flies (1920x1080)")
    add("--workspace", default="1024", metavar="MIB", help="GPU memory a layer may use while built (1024)")
    args = parser.parse_args(arguments)
    import_libraries()  # without them there is nothing to prepare
    options = ["--engine", "--frame-size", args.frame_size, "--workspace", args.workspace]
    for onnx in unpack(Bundle(args.bundle), args.models):
        code = aerial_export([str(onnx), *options])
        if code == 0:
            engine = find_engine(onnx)
            code = aerial_export(["--verify", str(engine)])
        if code != 0:
            return code
        say(f"{link(engine)} is {engine.name}")
    return 0


def unpack(bundle: Bundle, folder: Path) -> list[Path]:
    """Write the models and the goldens of a bundle into a folder; return the models' paths.

    Raises ModelError for the bundle, ResourceError for the folder.
    """
    names = [name for name in bundle.names if name.endswith((".onnx", GOLDENS_SUFFIX))]
    with new_files(folder) as new:
        for name in names:
            (new / name).write_bytes(bundle.read(name))
    return [folder / name for name in names if name.endswith(".onnx")]


def link(engine: Path) -> Path:
    """Let NAME.engine and its card lead to an engine beside them; return the former's path. Raises ResourceError."""
    known = engine.with_name(engine.name.partition(".")[0] + ENGINE_SUFFIX)
    try:
        for path, target in ((known, engine), (card_path(known), card_path(engine))):
            new = path.with_name(path.name + ".new")
            new.unlink(missing_ok=True)
            new.symlink_to(target.name)
            new.replace(path)
    except OSError as error:
        raise ResourceError(f"cannot link {known} ({error.strerror}); check --models") from error
    return known


if __name__ == "__main__":
    sys.exit(main())
