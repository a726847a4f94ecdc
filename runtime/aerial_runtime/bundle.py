"""`NAME.aerial`: both models in one file, with a frame and what they found in it when the bundle was made.

A bundle is a zip archive: bundle.json, segmenter.onnx, classifier.onnx, golden.png, and what `aerial-export --verify`
needs. Before it flies its checksums, its cards and the golden answer are checked on the machine that will fly it.
"""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

import cv2
import msgspec
import numpy as np

from aerial_runtime.card import LabelSpace, ModelCard, Thresholds
from aerial_runtime.config import CLASSIFIER_FILE, SEGMENTER_FILE
from aerial_runtime.contract import DECODE_ERRORS, Attribute, Box, Frame, Target
from aerial_runtime.errors import CheckError, ModelError, ResourceError
from aerial_runtime.pipeline import Pipeline

SUFFIX: Final = ".aerial"
SCHEMA: Final = "aerial.bundle/1"
MANIFEST: Final = "bundle.json"
GOLDEN_FRAME: Final = "golden.png"
MODELS: Final = (SEGMENTER_FILE, CLASSIFIER_FILE)
# Other processors and half precision move confidences by less than this; so what is nearer to a threshold may go
# either way, and so may a label whose runner-up is as near.
UNSURE: Final = 0.05
UNSURE_DEGREES: Final = 10.0
MAX_FILE_BYTES: Final = 1 << 31  # of a file inside; ONNX has the same limit
# RuntimeError: of an encrypted file, and NotImplementedError, of another compression, is one.
DAMAGE: Final = (KeyError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)


class Manifest(msgspec.Struct, frozen=True, rename={"schema_": "schema"}):
    """What a bundle says of itself.

    sha256: file name -> hex, of every other file inside. label_space, thresholds: those of the cards, for readers.
    golden: the targets in the golden frame. made_by: version of aerial and the provider that found them.
    """

    name: str
    sha256: dict[str, str]
    label_space: LabelSpace
    thresholds: Thresholds
    golden: list[Target]
    made_by: dict[str, str]
    schema_: Literal["aerial.bundle/1"] = SCHEMA


class Bundle:
    """An opened bundle. path: for messages. names: of the files inside. manifest: what it says of itself."""

    def __init__(self, path: Path) -> None:
        """Read what flies. Raises ModelError for a file that is missing, damaged, of another version or changed."""
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                self.names = archive.namelist()
                self.manifest = _manifest(path, _read(archive, MANIFEST))
                self._files = {name: _read(archive, name) for name in (*MODELS, GOLDEN_FRAME)}
        except DAMAGE as error:
            raise ModelError(f"{path} is damaged or no bundle ({error}); copy it again, or make it anew") from error
        except OSError as error:
            raise ModelError(f"cannot read the bundle {path} ({error.strerror}); check the path") from error
        if outside := [name for name in self.names if Path(name).name != name]:  # who unpacks it would write there
            raise ModelError(f"{path} holds {outside[0]!r}, and a bundle has no folders; make it anew")
        for name, data in self._files.items():
            self._check_sum(name, data)

    def read(self, name: str) -> bytes:
        """Return another file inside, checked. Raises ModelError."""
        try:
            with zipfile.ZipFile(self.path) as archive:
                data = _read(archive, name)
        except (OSError, *DAMAGE) as error:
            raise ModelError(f"cannot read {name} in {self.path} ({error}); copy the bundle again") from error
        self._check_sum(name, data)
        return data

    def _check_sum(self, name: str, data: bytes) -> None:
        if hashlib.sha256(data).hexdigest() != self.manifest.sha256.get(name):
            raise ModelError(f"{name} in {self.path} is not the file that was bundled; copy the bundle again")

    @contextmanager
    def unpacked(self) -> Iterator[Path]:
        """Give a folder that holds both models, until the block ends. Raises ResourceError."""
        try:
            folder = tempfile.TemporaryDirectory(prefix="aerial-")
            for name in MODELS:
                (Path(folder.name) / name).write_bytes(self._files[name])
        except OSError as error:
            raise ResourceError(
                f"cannot unpack {self.path} into {tempfile.gettempdir()} ({error.strerror}); "
                "free space there, or name another folder in TMPDIR"
            ) from error
        with folder:
            yield Path(folder.name)

    def golden_frame(self) -> Frame:
        """Return the golden frame. Raises ModelError."""
        image_bgr = cv2.imdecode(np.frombuffer(self._files[GOLDEN_FRAME], np.uint8), cv2.IMREAD_COLOR)
        if image_bgr is None:
            raise ModelError(f"{GOLDEN_FRAME} in {self.path} is no picture; make the bundle anew")
        return Frame(np.asarray(image_bgr, np.uint8), GOLDEN_FRAME, 0, 0, 0)

    def check(self, segmenter: ModelCard, classifier: ModelCard, pipeline: Pipeline) -> None:
        """Compare the cards, and what the pipeline finds in the golden frame, with the manifest.

        pipeline: of both models, with the thresholds of their cards. Raises ModelError or CheckError.
        """
        manifest = self.manifest
        if (classifier.label_space, thresholds_of(segmenter, classifier)) != (
            manifest.label_space,
            manifest.thresholds,
        ):
            raise ModelError(f"the cards in {self.path} are not those that it states; make the bundle anew")
        seen = pipeline(self.golden_frame()).targets
        found = difference(manifest.golden, seen, segmenter.stride or 1, manifest.thresholds)
        if found is not None:
            raise CheckError(
                f"{self.path} does not find on this machine what it found when it was made: {found}; "
                "do not fly it, see aerial-export --verify"
            )


def thresholds_of(segmenter: ModelCard, classifier: ModelCard) -> Thresholds:
    """Return the thresholds of a pair: each model's own."""
    return msgspec.structs.replace(classifier.thresholds, mask=segmenter.thresholds.mask)


def difference(golden: Sequence[Target], seen: Sequence[Target], cell_px: int, thresholds: Thresholds) -> str | None:
    """Return the first thing in which two answers differ by more than machines do, None where they agree.

    cell_px: the segmenter's stride, by which an edge of a box may move.
    """
    free = list(seen)
    for target in golden:
        twin = next((other for other in free if _is_near(target.box, other.box, cell_px)), None)
        if twin is not None:
            free.remove(twin)
            found = _target_difference(target, twin, thresholds)
            if found is not None:
                return found
        elif target.confidence >= surely_over(thresholds.target):
            return f"no target at {_place(target.box)}"
    for target in free:
        if target.confidence >= surely_over(thresholds.target):
            return f"a new target at {_place(target.box)}"
    return None


def _target_difference(golden: Target, seen: Target, thresholds: Thresholds) -> str | None:
    place = f"the target at {_place(golden.box)}"
    if abs(golden.confidence - seen.confidence) > UNSURE:
        return f"{place} has a confidence of {seen.confidence:g}, not {golden.confidence:g}"
    for name, attribute in golden.attributes.items():
        other = seen.attributes.get(name)
        if other is None or abs(attribute.confidence - other.confidence) > UNSURE:
            says = "nothing" if other is None else f"{other.confidence:g}"
            return f"{place} has a confidence in {name} of {says}, not {attribute.confidence:g}"
        if is_sure(attribute, thresholds.abstain.get(name, 0.0)) and not _same(attribute, other):
            return f"{place} has the {name} {other.label!r}, not {attribute.label!r}"
    return None


def surely_over(threshold: float) -> float:
    """Return the confidence that is over a threshold on any machine. Near 1 confidences move by less than UNSURE."""
    return threshold + min(UNSURE, (1 - threshold) / 2)


def is_sure(attribute: Attribute, abstain_under: float) -> bool:
    """Tell whether the label would be the same on any machine: far from abstaining, and no runner-up near."""
    if attribute.label is None:
        return attribute.confidence < abstain_under - UNSURE
    return attribute.confidence >= surely_over(max(abstain_under, 0.5))


def _same(one: Attribute, other: Attribute) -> bool:
    if isinstance(one.degrees, float) and isinstance(other.degrees, float):  # the sector's edge may lie between
        return abs((one.degrees - other.degrees + 180) % 360 - 180) <= UNSURE_DEGREES
    return one.label == other.label


def _is_near(one: Box, other: Box, cell_px: int) -> bool:
    edges = ((box.x, box.y, box.x + box.width, box.y + box.height) for box in (one, other))
    return all(abs(a - b) <= cell_px for a, b in zip(*edges, strict=True))


def _place(box: Box) -> str:
    return f"{box.x},{box.y} ({box.width}x{box.height} px)"


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    """Return a file inside. Raises DAMAGE; a few bytes can claim to unpack to more than there is memory."""
    size = archive.getinfo(name).file_size
    if size > MAX_FILE_BYTES:
        raise zipfile.BadZipFile(f"{name} claims to have {size} bytes")
    return archive.read(name)


def _manifest(path: Path, data: bytes) -> Manifest:
    try:
        return msgspec.json.decode(data, type=Manifest)
    except DECODE_ERRORS as error:
        raise ModelError(
            f"the manifest of {path} is not one of {SCHEMA!r} ({error}); make the bundle with this version of aerial"
        ) from error
