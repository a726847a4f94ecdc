import numpy as np

from aerial_export.goldens import goldens_beside
from aerial_export.parity_sheet import AMPLIFIED, COLUMN_PX, side_by_side
from aerial_runtime.backends import open_backend
from aerial_runtime.backends.fake import FakeBackend


def sheet_of(exported, name, change=None):
    with open_backend(exported / name, "cpu") as backend:
        goldens = goldens_beside(exported / name, backend.card).inputs
        if change is None:
            return side_by_side(backend, goldens)
        answers = {golden.images.tobytes(): golden.answer for golden in goldens}
        return side_by_side(FakeBackend(backend.card, lambda images: change(answers[images.tobytes()])), goldens)


def test_frames_stand_beside_both_masks_and_their_difference(exported):
    sheet = sheet_of(exported, "s.fp16.onnx", lambda answer: {"probability": answer["probability"] + np.uint8(2)})
    assert sheet.dtype == np.uint8 and sheet.shape[1] == 4 * (COLUMN_PX + 6)
    difference = sheet[40, 3 * (COLUMN_PX + 6) : 3 * (COLUMN_PX + 6) + COLUMN_PX]
    assert (difference == 2 * AMPLIFIED).mean() > 0.9
    same = sheet_of(exported, "s.fp16.onnx", lambda answer: dict(answer))
    assert (same[40, 3 * (COLUMN_PX + 6) : 3 * (COLUMN_PX + 6) + COLUMN_PX] == 0).all()


def test_crops_stand_beside_what_both_files_read(exported):
    sheet = sheet_of(exported, "c.fp16.onnx")
    assert sheet.shape[1] == 4 * COLUMN_PX and (sheet < 128).any()
