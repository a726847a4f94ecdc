import pytest
import torch

from aerial_runtime.errors import UsageError
from aerial_train.feed import HELD_OUT_EPOCH, EpochSteps, Feed, held_out_loader, train_loader
from aerial_train.fit_segmenter import SegmenterOptions


def live_loader(data, batch, steps, workers, **share):
    return train_loader(data, EpochSteps(steps, batch, **share), workers)


def epoch_of(loader, epoch):
    loader.sampler.set_epoch(epoch)
    return list(loader)


def test_batches_do_not_depend_on_the_number_of_workers(square_frames):
    alone = live_loader(square_frames(), 3, 4, workers=0)
    helped = live_loader(square_frames(), 3, 4, workers=2)
    for epoch in (0, 1):
        for one, other in zip(epoch_of(alone, epoch), epoch_of(helped, epoch), strict=True):
            assert all(torch.equal(one[name], other[name]) for name in ("images", "coverage", "weight"))


def test_two_processes_share_every_batch(square_frames):
    whole = epoch_of(live_loader(square_frames(), 4, 3, workers=0), 1)
    parts = [epoch_of(live_loader(square_frames(), 4, 3, workers=0, rank=r, world_size=2), 1) for r in (0, 1)]
    for batch, first, second in zip(whole, *parts, strict=True):
        assert torch.equal(batch["images"], torch.cat((first["images"], second["images"])))
    shares = [list(held_out_loader(square_frames(), 2, 9, rank, 2)) for rank in (0, 1)]
    assert [[len(batch["images"]) for batch in share] for share in shares] == [[2, 2, 1], [2, 2]]


def test_each_process_has_a_share_of_a_small_held_out_set(square_frames):
    shares = [list(held_out_loader(square_frames(), 16, 5, rank, 4)) for rank in range(4)]
    assert [sum(len(batch["images"]) for batch in share) for share in shares] == [2, 1, 1, 1]
    options = SegmenterOptions(name="s", held_out=3, devices=4)
    with pytest.raises(UsageError, match="3 held-out pictures cannot be shared by 4 processes"):
        Feed(square_frames(), square_frames(), options)


def test_an_interrupted_epoch_goes_on_and_the_next_is_whole(square_frames):
    whole = epoch_of(live_loader(square_frames(), 2, 4, workers=0), 0)
    resumed = live_loader(square_frames(), 2, 4, workers=0, done=3)
    rest = epoch_of(resumed, 0)
    assert len(rest) == 1 and torch.equal(rest[0]["images"], whole[3]["images"])
    assert len(epoch_of(resumed, 1)) == 4 == len(resumed)


def test_every_sample_of_every_epoch_is_another(square_frames):
    loader = live_loader(square_frames(), 2, 3, workers=0)
    batches = epoch_of(loader, 0) + epoch_of(loader, 1)
    images = torch.cat([batch["images"] for batch in batches])
    assert images.shape == (12, 32, 32, 3) and images.dtype == torch.uint8
    assert len(torch.unique(images.flatten(1), dim=0)) == 12
    assert len(loader) == 3


def test_held_out_set_is_fixed_whole_and_of_its_own_epoch(square_frames):
    loader = held_out_loader(square_frames(), 4, 10)
    first, second = list(loader), list(loader)
    assert [len(batch["images"]) for batch in first] == [4, 4, 2]
    assert all(torch.equal(a["images"], b["images"]) for a, b in zip(first, second, strict=True))
    wanted = square_frames().batch(HELD_OUT_EPOCH, range(4)).images
    assert torch.equal(first[0]["images"], torch.from_numpy(wanted))


def test_labels_stay_a_dict_of_tensors(colour_crops):
    (batch,) = held_out_loader(colour_crops(), 8, 8)
    assert set(batch) == {"crops", "is_target", "labels", "heading"}
    assert {name: values.dtype for name, values in batch["labels"].items()} == dict.fromkeys(
        ("kind", "mark"), torch.int64
    )


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_a_scene_is_not_swallowed(square_frames, workers):
    class Broken(square_frames):
        def batch(self, epoch, indices):
            raise ValueError("no such background")

    with pytest.raises(ValueError, match="no such background"):
        list(live_loader(Broken(), 2, 2, workers))
