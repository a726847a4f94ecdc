import signal

import pytest
import torch

from aerial_train.checkpoint import load_checkpoint
from aerial_train.fit_segmenter import SegmenterOptions, train_segmenter


def options(folder, name="run", **changes):
    values = {"filters": (8, 16), "epochs": 3, "images_per_epoch": 64, "batch": 8, "held_out": 16, "workers": 0}
    return SegmenterOptions(name=name, out=str(folder), threads=1, **values | changes)


@pytest.fixture
def own_interrupt_handler():
    """Lightning leaves SIGINT ignored after an interrupt."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def test_it_learns_and_keeps_models_with_cards(tmp_path, square_frames, arrows, capsys):
    given = options(tmp_path, epochs=6, images_per_epoch=320)
    assert train_segmenter(given, square_frames(), square_frames(seed=1)) == 0
    best = load_checkpoint(tmp_path / "run" / "best.pt", "segmenter")
    card = best.card
    assert card.scores["jaccard"] > 0.6, capsys.readouterr().out
    assert card.scores["dice"] >= card.scores["jaccard"]
    assert (card.stride, card.crop_margin, card.label_space, card.name) == (4, 1.3, arrows, "run")
    assert card.training["steps"] == card.training["epoch"] * 40
    assert card.training["options"]["filters"] == [8, 16]
    assert load_checkpoint(tmp_path / "run" / "last.pt").card.training["epoch"] == 6
    names = {file.name for file in (tmp_path / "run").iterdir()}
    assert names == {"best.pt", "last.pt", "last.ckpt", "options.json", "curves"}
    with torch.no_grad():  # the card's score is that of the weights beside it
        frame = square_frames(seed=1).batch(-1, range(16))
        seen = best.network(torch.from_numpy(frame.images))[:, 0] > 0
    truth = torch.from_numpy(frame.coverage) > 127
    assert ((seen & truth).sum() / (seen | truth).sum()).item() == pytest.approx(card.scores["jaccard"], abs=1e-4)


def test_interrupted_and_resumed_is_the_same_as_uninterrupted(tmp_path, square_frames, own_interrupt_handler, capsys):
    held_out = square_frames(seed=1)
    assert train_segmenter(options(tmp_path, "whole"), square_frames(), held_out) == 0
    broken = options(tmp_path, "broken")
    assert train_segmenter(broken, square_frames(interrupt_at=(1, 24)), held_out) == 130
    assert f"--resume --name broken --out {tmp_path}" in capsys.readouterr().out
    assert load_checkpoint(tmp_path / "broken" / "last.pt").card.training["epoch"] == 1
    assert train_segmenter(broken, square_frames(), held_out, resume=True) == 0
    whole, resumed = (load_checkpoint(tmp_path / name / "last.pt") for name in ("whole", "broken"))
    assert resumed.card.weights_sha256 == whole.card.weights_sha256
    assert resumed.card.scores == whole.card.scores
    assert resumed.card.training["steps"] == 24


def test_kept_weights_are_the_averaged_ones(tmp_path, square_frames):
    train_segmenter(options(tmp_path, epochs=1, images_per_epoch=640), square_frames(), square_frames(seed=1))
    kept = load_checkpoint(tmp_path / "run" / "last.pt").network.head.weight
    lightning = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    assert torch.equal(kept, lightning["state_dict"]["network.head.weight"])
    assert not torch.equal(kept, lightning["current_model_state"]["network.head.weight"])


def test_a_resumed_run_keeps_the_best_of_before(tmp_path, square_frames, own_interrupt_handler):
    class NothingToFind(square_frames):
        def batch(self, epoch, indices):
            made = super().batch(epoch, indices)
            made.coverage[:] = 0
            return made

    given = options(tmp_path, epochs=2, images_per_epoch=320)
    train_segmenter(given, square_frames(interrupt_at=(1, 16)), square_frames(seed=1))
    assert load_checkpoint(tmp_path / "run" / "best.pt").card.scores["jaccard"] > 0
    train_segmenter(given, square_frames(), NothingToFind(), resume=True)
    assert load_checkpoint(tmp_path / "run" / "last.pt").card.scores["jaccard"] == 0
    assert load_checkpoint(tmp_path / "run" / "best.pt").card.training["epoch"] == 1


def test_a_run_without_a_finished_epoch_begins_again(tmp_path, square_frames, own_interrupt_handler):
    given = options(tmp_path, epochs=1)
    assert train_segmenter(given, square_frames(interrupt_at=(0, 16)), square_frames(seed=1)) == 130
    assert not (tmp_path / "run" / "last.ckpt").exists()
    assert train_segmenter(given, square_frames(), square_frames(seed=1), resume=True) == 0
    assert load_checkpoint(tmp_path / "run" / "last.pt").card.training["steps"] == 8


def test_the_seed_decides(tmp_path, square_frames):
    hashes = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        given = options(tmp_path, name, epochs=1, seed=seed, images_per_epoch=16)
        train_segmenter(given, square_frames(), square_frames(seed=1))
        hashes.append(load_checkpoint(tmp_path / name / "last.pt").card.weights_sha256)
    assert hashes[0] == hashes[1] != hashes[2]
