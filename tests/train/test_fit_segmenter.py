import os
import resource
import signal
from contextlib import nullcontext

import pytest
import torch

from aerial_runtime.errors import InputError, ResourceError, UsageError, run_command
from aerial_train.checkpoint import load_checkpoint
from aerial_train.fit import Job, fit
from aerial_train.fit_segmenter import SegmenterOptions, segmenter_task


def options(folder, name="run", **changes):
    values = {"filters": (8, 16), "epochs": 3, "images_per_epoch": 64, "batch": 8, "held_out": 16, "workers": 0}
    return SegmenterOptions(name=name, out=str(folder), threads=1, accelerator="cpu", **values | changes)


def train_segmenter(given, train, held_out, *, resume=False):
    return fit(Job(segmenter_task(given, train.label_space), train, held_out), resume=resume)


@pytest.fixture
def signalled(square_frames):
    """Return frames whose batch at (epoch, first index) comes with a signal."""

    class Signalled(square_frames):
        def __init__(self, *signals, at):
            super().__init__()
            self.signals, self.at = signals, at

        def batch(self, epoch, indices):
            if self.at == (epoch, indices[0]):
                for number in self.signals:
                    os.kill(os.getpid(), number)
            return super().batch(epoch, indices)

    return Signalled


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


@pytest.mark.parametrize(
    ("number", "at", "changes", "step"),
    [
        (signal.SIGINT, (1, 24), {}, 12),  # in the middle of an epoch
        (signal.SIGTERM, (0, 0), {}, 1),
        (signal.SIGINT, (0, 56), {}, 8),  # with the last batch: the epoch is finished, scored and kept
        (signal.SIGINT, (1, 16), {"accumulate": 2}, 6),
        (signal.SIGINT, (1, 24), {"schedule": "plateau", "patience": 0, "average": 0, "optimizer": "sgd"}, 12),
        (signal.SIGINT, (1, 24), {"dropout": 0.3, "architecture": "unetpp"}, 12),
    ],
)
def test_interrupted_and_resumed_is_the_same_as_uninterrupted(
    tmp_path, square_frames, signalled, capsys, number, at, changes, step
):
    held_out = square_frames(seed=1)
    assert train_segmenter(options(tmp_path, "whole", **changes), square_frames(), held_out) == 0
    broken = options(tmp_path, "broken", **changes)
    assert train_segmenter(broken, signalled(number, at=at), held_out) == 128 + number
    said = capsys.readouterr().out
    assert f"keeps everything up to step {step} of" in said and f"--resume --name broken --out {tmp_path}" in said
    assert train_segmenter(broken, square_frames(), held_out, resume=True) == 0
    whole, resumed = (load_checkpoint(tmp_path / name / "last.pt") for name in ("whole", "broken"))
    assert resumed.card.weights_sha256 == whole.card.weights_sha256
    assert resumed.card.scores == whole.card.scores
    assert resumed.card.training["steps"] == whole.card.training["steps"]


def test_a_second_signal_ends_at_once_and_keeps_the_finished_epochs(tmp_path, square_frames, signalled, capsys):
    held_out = square_frames(seed=1)
    given = options(tmp_path)
    assert train_segmenter(given, signalled(signal.SIGINT, signal.SIGINT, at=(1, 24)), held_out) == 130
    assert "keeps everything up to step 8 of 24" in capsys.readouterr().out
    assert load_checkpoint(tmp_path / "run" / "last.pt").card.training["epoch"] == 1


def test_a_resumed_run_that_ends_at_once_says_what_it_had(tmp_path, square_frames, signalled, capsys):
    given, held_out = options(tmp_path, logger="none"), square_frames(seed=1)
    assert train_segmenter(given, signalled(signal.SIGINT, at=(1, 24)), held_out) == 130
    twice = signalled(signal.SIGINT, signal.SIGINT, at=(1, 40))
    assert train_segmenter(given, twice, held_out, resume=True) == 130
    ended = signalled(signal.SIGINT, at=(-1, 0))  # while its held-out set is made
    assert train_segmenter(given, square_frames(), ended, resume=True) == 130
    assert capsys.readouterr().out.count("keeps everything up to step 12 of 24") == 3


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_whatever_ends_a_training_the_signals_are_heard_as_before(tmp_path, square_frames, error):
    class Ends(square_frames):
        def batch(self, epoch, indices):
            if (epoch, indices[0]) == (0, 8):
                raise error
            return super().batch(epoch, indices)

    numbers = signal.SIGINT, signal.SIGTERM
    before = list(map(signal.getsignal, numbers))
    with pytest.raises(error) if error is ValueError else nullcontext():
        train_segmenter(options(tmp_path, logger="none"), Ends(), square_frames(seed=1))
    assert list(map(signal.getsignal, numbers)) == before


def test_sigterm_while_the_held_out_set_is_made_ends_at_once(tmp_path, square_frames, signalled, capsys):
    held_out = signalled(signal.SIGTERM, at=(-1, 0))
    assert run_command("name", lambda: train_segmenter(options(tmp_path), square_frames(), held_out)) == 143
    assert "keeps everything up to step 0 of 24" in capsys.readouterr().out


def test_a_damaged_resume_file_is_named(tmp_path, square_frames, signalled):
    assert train_segmenter(options(tmp_path), signalled(signal.SIGINT, at=(0, 8)), square_frames(seed=1)) == 130
    (tmp_path / "run" / "last.ckpt").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"last\.ckpt cannot be read"):
        train_segmenter(options(tmp_path), square_frames(), square_frames(seed=1), resume=True)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # the thread that writes curves
@pytest.mark.parametrize(
    ("logger", "share", "named"), [("none", 0.5, r"last\.ckpt \(File"), ("tensorboard", 1e-3, r"the run .*run \(File")]
)
def test_a_full_disk_ends_in_a_sentence_and_the_run_goes_on_later(
    tmp_path, square_frames, size_limit, logger, share, named
):
    given, held_out = options(tmp_path, logger=logger, images_per_epoch=512), square_frames(seed=1)

    class DiskFillsUp(square_frames):
        def batch(self, epoch, indices):
            if (epoch, indices[0]) == (1, 0):
                most = round(share * (tmp_path / "run" / "last.ckpt").stat().st_size)
                resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
            return super().batch(epoch, indices)

    with size_limit(resource.RLIM_INFINITY), pytest.raises(ResourceError, match=named):
        train_segmenter(given, DiskFillsUp(), held_out)
    assert train_segmenter(given, square_frames(), held_out, resume=True) == 0
    assert load_checkpoint(tmp_path / "run" / "last.pt").card.training["epoch"] == 3


def test_early_stopping_ends_where_nothing_gets_better(tmp_path, square_frames):
    given = options(tmp_path, epochs=9, early_stop=2, lr=1e-12)
    assert train_segmenter(given, square_frames(), square_frames(seed=1)) == 0
    assert load_checkpoint(tmp_path / "run" / "last.pt").card.training["epoch"] < 9


def test_curves_and_pictures_for_tensorboard(tmp_path, square_frames):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train_segmenter(options(tmp_path, epochs=2), square_frames(), square_frames(seed=1))
    board = EventAccumulator(str(tmp_path / "run" / "curves"))
    board.Reload()
    assert {"held_out/jaccard", "held_out/loss", "train_loss"} <= set(board.Tags()["scalars"])
    assert any(name.startswith("lr-") for name in board.Tags()["scalars"])
    assert set(board.Tags()["images"]) == {"held_out/some", "held_out/worst"}
    assert len(board.Images("held_out/worst")) == 2


def test_other_loggers(tmp_path, square_frames, monkeypatch):
    train_segmenter(options(tmp_path, logger="csv", epochs=1), square_frames(), square_frames(seed=1))
    curves = tmp_path / "run" / "curves" / "metrics.csv"
    assert "held_out/jaccard" in (first := curves.read_text())
    train_segmenter(options(tmp_path, logger="csv", epochs=2), square_frames(), square_frames(seed=1), resume=True)
    assert (curves.with_name("metrics-1.csv").read_text(), "held_out/jaccard" in curves.read_text()) == (first, True)
    with pytest.raises(ResourceError, match="pip install wandb"):
        train_segmenter(options(tmp_path, "other", logger="wandb"), square_frames(), square_frames(seed=1))


def test_what_cannot_be_is_refused_before_any_data_is_made(tmp_path, arrows):
    for changes, message in (
        ({"loss": "jacard"}, "'jaccard'"),
        ({"output_stride": 3}, "cannot be built"),
        ({"frame_size": 8}, "at least 16"),
        ({"activation": "rely"}, "'relu'"),
    ):
        with pytest.raises(UsageError, match=message):
            segmenter_task(options(tmp_path, **changes), arrows)


def test_kept_weights_are_the_averaged_ones(tmp_path, square_frames):
    train_segmenter(options(tmp_path, epochs=1, images_per_epoch=640), square_frames(), square_frames(seed=1))
    kept = load_checkpoint(tmp_path / "run" / "last.pt").network.head.weight
    lightning = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    assert torch.equal(kept, lightning["state_dict"]["network.head.weight"])
    assert not torch.equal(kept, lightning["current_model_state"]["network.head.weight"])


def test_a_resumed_run_keeps_the_best_of_before(tmp_path, square_frames, signalled):
    class NothingToFind(square_frames):
        def batch(self, epoch, indices):
            made = super().batch(epoch, indices)
            made.coverage[:] = 0
            return made

    given = options(tmp_path, epochs=2, images_per_epoch=320)
    train_segmenter(given, signalled(signal.SIGINT, at=(1, 16)), square_frames(seed=1))
    assert load_checkpoint(tmp_path / "run" / "best.pt").card.scores["jaccard"] > 0
    train_segmenter(given, square_frames(), NothingToFind(), resume=True)
    assert load_checkpoint(tmp_path / "run" / "last.pt").card.scores["jaccard"] == 0
    assert load_checkpoint(tmp_path / "run" / "best.pt").card.training["epoch"] == 1


def test_a_run_of_which_nothing_is_kept_begins_again(tmp_path, square_frames):
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
