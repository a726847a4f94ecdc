import pytest
import torch

from aerial_train import cli
from aerial_train.bench import Bench
from aerial_train.fit_classifier import ClassifierOptions
from aerial_train.tasks import make_job

SMALL = ["--filters", "8-16", "--blocks", "1", "--crop-size", "32", "--batch", "8", "--accelerator", "cpu", "--threads",
         "1", "--lr", "0.01"]  # fmt: skip


def test_a_batch_is_learnt_by_heart(capsys):
    assert cli.main(["overfit", "classifier", *SMALL, "--steps", "400", "--at-least", "0.8"]) == 0
    assert "learnt by heart: mean_accuracy" in capsys.readouterr().out


def test_a_network_that_cannot_learn_is_told(capsys):
    frozen = ["--freeze", "stem,trunk", "--steps", "10", "--at-least", "1"]
    assert cli.main(["overfit", "classifier", *SMALL, *frozen]) == 6
    error = capsys.readouterr().err
    assert "could not be learnt by heart in 10 steps" in error and error.count("\n") == 1


def test_what_is_frozen_does_not_learn():
    job = make_job(ClassifierOptions(name="x", filters=(8, 16), blocks=1, crop_size=32, batch=8, accelerator="cpu",
                                     threads=1, freeze=("stem",)))  # fmt: skip
    bench = Bench(job.task)
    parts = [list(getattr(job.task.network, name).parameters()) for name in ("stem", "heads")]
    before = [[weight.detach().clone() for weight in part] for part in parts]
    bench.step(bench.take(job.train.batch(0, range(8))))
    frozen, learnt = (list(map(torch.equal, *pair)) for pair in zip(parts, before, strict=True))
    assert all(frozen) and not any(learnt)


@pytest.mark.parametrize(("precision", "seen"), [("bf16", torch.bfloat16), ("32", torch.float32)])
def test_it_computes_in_the_precision_of_the_training(precision, seen):
    job = make_job(ClassifierOptions(name="x", filters=(8, 16), blocks=1, crop_size=32, batch=8, accelerator="cpu",
                                     threads=1, precision=precision))  # fmt: skip
    bench, found = Bench(job.task), set()
    job.task.network.stem.register_forward_hook(lambda _module, _inputs, output: found.add(output.dtype))
    batch = bench.take(job.train.batch(0, range(8)))
    assert bench.step(batch) > 0 and bench.score(batch) >= 0
    assert found == {seen}


def test_batches_that_make_one_step_count_as_their_mean():
    given = {"filters": (8, 16), "blocks": 1, "crop_size": 32, "batch": 8, "accelerator": "cpu", "threads": 1}
    job = make_job(ClassifierOptions(name="x", optimizer="sgd", clip=0.0, freeze_norms=True, **given))
    bench = Bench(job.task)
    batch = bench.take(job.train.batch(0, range(8)))
    before = {name: tensor.clone() for name, tensor in job.task.state_dict().items()}
    losses, learnt = [], []
    for batches in ((batch,), (batch, batch)):
        job.task.load_state_dict(before)
        bench.optimizer.state.clear()
        losses.append(bench.step(*batches))
        learnt.append(job.task.network.heads.weight.detach().clone())
    assert losses[0] == pytest.approx(losses[1])
    torch.testing.assert_close(*learnt)
    assert not torch.equal(learnt[0], before["network.heads.weight"])


def test_bad_requests(capsys):
    assert cli.main(["overfit", "classifier", *SMALL, "--steps", "0"]) == 2
    assert cli.main(["overfit", "classifier", *SMALL, "--at-least", "2"]) == 2
    assert cli.main(["overfit", "classifier", *SMALL, "--resume"]) == 2
