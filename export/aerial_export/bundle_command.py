"""`aerial-bundle`: a segmenter and a classifier become one file that proves itself where it flies. Free of torch."""

from __future__ import annotations

import hashlib
import io
import sys
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import msgspec

from aerial_export.goldens import SUFFIX as GOLDENS_SUFFIX
from aerial_export.goldens import goldens_beside
from aerial_export.new_files import new_files
from aerial_runtime import __version__
from aerial_runtime.backends import Backend, open_backend
from aerial_runtime.bundle import (
    GOLDEN_FRAME,
    MANIFEST,
    MODELS,
    SUFFIX,
    UNSURE,
    Manifest,
    is_sure,
    surely_over,
    thresholds_of,
)
from aerial_runtime.camera.image_file import read_image
from aerial_runtime.card import LabelSpace, Thresholds
from aerial_runtime.config import Parser
from aerial_runtime.contract import U8, Frame, Target
from aerial_runtime.engine_card import ENGINE_SUFFIX
from aerial_runtime.errors import InputError, ModelError, ResourceError, UsageError, run_command
from aerial_runtime.pipeline import DetectOptions, Pipeline
from aerial_runtime.say import say, utf8

TRIED: Final = 60  # frames drawn for a golden one
FRAME_SIZE: Final = (320, 384)  # height, width: room for some targets, and small in the bundle
TARGETS: Final = (2, 4)
SIZE_PX: Final = (28.0, 90.0)
SEED: Final = 3
DATE: Final = (1980, 1, 1, 0, 0, 0)  # the same models make the same file


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `aerial-bundle`; return its exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    return run_command("aerial-bundle", lambda: _run(words))


def _run(words: list[str]) -> int:
    parser = Parser(prog="aerial-bundle", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("segmenter", type=Path, metavar="SEGMENTER.onnx", help="FP32 file of aerial-export")
    add("classifier", type=Path, metavar="CLASSIFIER.onnx", help="FP32 file of aerial-export, of the same label space")
    add("-o", "--output", type=Path, required=True, metavar="NAME.aerial", help="file to write")
    add("--overwrite", action="store_true", help="replace an existing --output")
    add(
        "--frame",
        type=Path,
        metavar="PICTURE",
        help="golden frame with targets in it (drawn, with the clearest answer)",
    )
    add("--version", action="version", version=f"aerial {__version__}")
    args = parser.parse_args(words)
    if args.output.suffix != SUFFIX:
        raise UsageError(f"the output {args.output} must end in {SUFFIX}")
    if args.output.exists() and not args.overwrite:
        raise UsageError(f"the output {args.output} exists; give --overwrite, or another --output")
    manifest = write_bundle(args.segmenter, args.classifier, args.output, args.frame)
    say(f"golden frame: {len(manifest.golden)} targets by {manifest.made_by['provider']}")
    say(f"wrote {args.output} ({args.output.stat().st_size / 1e6:.2f} MB)")
    return 0


def write_bundle(segmenter: Path, classifier: Path, output: Path, picture: Path | None = None) -> Manifest:
    """Write the bundle of two models and return its manifest. picture: the golden frame; None: one is drawn.

    Raises ModelError for the models, InputError for their goldens, for the picture or where nothing is found in it,
    ResourceError where the file cannot be written.
    """
    for path in (segmenter, classifier):
        if path.suffix == ENGINE_SUFFIX:  # before it asks for a GPU
            raise ModelError(f"{path} is an engine; a bundle flies anywhere, give FP32 files")
    with ExitStack() as stack:
        backends = [stack.enter_context(open_backend(path, "cpu")) for path in (segmenter, classifier)]
        for backend, kind in zip(backends, ("segmenter", "classifier"), strict=True):
            if backend.card.kind != kind:
                raise ModelError(
                    f"{backend.name} is a {backend.card.kind}; give the segmenter first, then the classifier"
                )
            if backend.card.precision != "fp32":
                raise ModelError(
                    f"{backend.name} is {backend.card.precision}; a bundle flies anywhere, give FP32 files"
                )
        golden = _golden(backends[0], backends[1], picture)
        provider = backends[0].provider
        cards = [backend.card for backend in backends]
    _, png = cv2.imencode(".png", golden.image_bgr, (cv2.IMWRITE_PNG_COMPRESSION, 9))
    files = dict(zip(MODELS, (segmenter.read_bytes(), classifier.read_bytes()), strict=True))
    files[GOLDEN_FRAME] = png.tobytes()
    for name, model, card in zip(MODELS, (segmenter, classifier), cards, strict=True):
        goldens = model.with_suffix(GOLDENS_SUFFIX)
        if goldens.is_file():  # so that --verify works wherever the bundle goes
            goldens_beside(model, card)  # raises where they are another model's
            files[Path(name).with_suffix(GOLDENS_SUFFIX).name] = goldens.read_bytes()
    manifest = Manifest(
        name=utf8(output.stem),
        sha256={name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
        label_space=cards[1].label_space,
        thresholds=thresholds_of(cards[0], cards[1]),
        golden=golden.targets,
        made_by={"aerial": __version__, "provider": provider},
    )
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    with new_files(output.parent) as folder:
        (folder / output.name).write_bytes(_zipped({MANIFEST: text} | files))
    return manifest


def _zipped(files: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, DATE), content, zipfile.ZIP_DEFLATED)
    return data.getvalue()


@dataclass(frozen=True)
class _Golden:
    """A frame, what was found in it, and how many of the answers are the same on any machine (see `is_sure`)."""

    image_bgr: U8
    targets: list[Target]
    sure: int


def _golden(segmenter: Backend, classifier: Backend, picture: Path | None) -> _Golden:
    """Return the frame with the most sure answers. Raises InputError where there is none."""
    card = classifier.card
    pipeline = Pipeline(segmenter, classifier)
    lenient = Pipeline(segmenter, classifier, options=DetectOptions(conf=max(0.0, card.thresholds.target - UNSURE)))
    best: _Golden | None = None
    for image_bgr in _drawn(card.label_space) if picture is None else [read_image(picture)]:
        frame = Frame(image_bgr, GOLDEN_FRAME, 0, 0, 0)
        targets = pipeline(frame).targets
        # A candidate just below the threshold might be a target elsewhere: such a frame counts for less.
        doubtful = len(lenient(frame).targets) - len(targets)
        sure = _sure(targets, card.thresholds) - doubtful
        if best is None or sure > best.sure:
            best = _Golden(image_bgr, targets, sure)
    if best is None or best.sure < 1:
        where = picture if picture is not None else f"{TRIED} drawn frames"
        raise InputError(
            f"the models find no target they are sure of in {where}; give --frame PICTURE with targets that they know"
        )
    return best


def _sure(targets: Sequence[Target], thresholds: Thresholds) -> int:
    """Return how many targets, and labels of theirs, no other machine would decide otherwise."""
    return sum(
        (target.confidence >= surely_over(thresholds.target))
        + sum(is_sure(attribute, thresholds.abstain.get(name, 0.0)) for name, attribute in target.attributes.items())
        for target in targets
        if target.confidence >= surely_over(thresholds.target)
    )


def _drawn(space: LabelSpace) -> Iterator[U8]:
    """Give frames with a few plain boards. Raises ResourceError where what draws them is not installed, InputError
    where it cannot draw the label space."""
    try:
        from aerial_train.demo_flight import STYLE
        from aerial_train.scenes.backgrounds import Backgrounds
        from aerial_train.scenes.camera import NO_CAMERA
        from aerial_train.scenes.frames import FrameRecipe, FrameScenes
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("aerial_"):
            raise
        raise ResourceError(
            f"the package {error.name} is missing, which draws a golden frame; "
            "in the checkout, pip install '.[train]', or give --frame PICTURE with targets in it"
        ) from error
    height, width = FRAME_SIZE
    recipe = FrameRecipe(
        height=height, width=width, targets=TARGETS, size_px=SIZE_PX, distractors=(0, 2), style=STYLE, camera=NO_CAMERA
    )
    try:
        scenes = FrameScenes(space, recipe, Backgrounds(), SEED)
    except InputError as error:
        raise InputError(
            f"no golden frame can be drawn ({str(error).partition(';')[0]}); give --frame PICTURE with targets in it"
        ) from error
    return (scenes.sample(0, index).image_bgr for index in range(TRIED))
