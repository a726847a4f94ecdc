from aerial_train import cli

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


def test_bad_requests(capsys):
    assert cli.main(["overfit", "classifier", *SMALL, "--steps", "0"]) == 2
    assert cli.main(["overfit", "classifier", *SMALL, "--at-least", "2"]) == 2
    assert cli.main(["overfit", "classifier", *SMALL, "--resume"]) == 2
