"""What networks learn from and are measured on: live scenes, written datasets, real photos, mixtures, one interface."""

from aerial_train.data.base import HELD_OUT_SEED_OFFSET, CropData, FrameData, Split
from aerial_train.data.opening import open_crops, open_frames

__all__ = ["HELD_OUT_SEED_OFFSET", "CropData", "FrameData", "Split", "open_crops", "open_frames"]
