import pytest

from aerial_runtime.errors import CheckError, UsageError
from aerial_train.checkpoint import load_checkpoint
from aerial_train.classifier import ClassifierConfig
from aerial_train.fit import Job, fit
from aerial_train.fit_classifier import ClassifierOptions, classifier_task, network_config


def options(folder, **changes):
    values = {"filters": (8, 16), "blocks": 1, "crop_size": 16, "epochs": 4, "images_per_epoch": 512, "batch": 32}
    values |= {"name": "run", "out": str(folder), "held_out": 64, "workers": 0, "threads": 1, "accelerator": "cpu"}
    return ClassifierOptions(**values | changes)


def train_classifier(given, train, held_out):
    return fit(Job(classifier_task(given, train.label_space), train, held_out), resume=False)


def test_it_learns_every_head(tmp_path, colour_crops, arrows, capsys):
    assert train_classifier(options(tmp_path), colour_crops(), colour_crops(seed=1)) == 0
    card = load_checkpoint(tmp_path / "run" / "best.pt", "classifier").card
    scores = card.scores
    assert scores["kind_accuracy"] > 0.9 and scores["target_accuracy"] > 0.9, capsys.readouterr().out
    assert scores["direction_accuracy"] > 0.5 and scores["heading_error_deg"] < 45, scores
    assert {"mark_accuracy", "direction_accuracy_raw", "target_auroc", "mean_accuracy", "loss"} <= set(scores)
    assert (card.crop_size, card.crop_margin, card.label_space) == (16, 1.3, arrows)
    assert [spec.name for spec in card.outputs] == ["kind", "mark", "target", "heading"]


def test_a_second_label_space_without_heading(tmp_path, colour_crops, pads):
    given = options(tmp_path, epochs=1, images_per_epoch=64)
    assert train_classifier(given, colour_crops(pads), colour_crops(pads, seed=1)) == 0
    card = load_checkpoint(tmp_path / "run" / "last.pt").card
    assert set(card.scores) == {"kind_accuracy", "target_accuracy", "target_auroc", "mean_accuracy", "loss"}
    assert [(spec.name, spec.shape) for spec in card.outputs] == [("kind", ("crops", 3)), ("target", ("crops", 1))]


def test_cards_hold_no_path_of_this_machine(tmp_path, colour_crops, pads):
    given = options(tmp_path, label_space=str(tmp_path / "pads.json"), epochs=1, images_per_epoch=64)
    assert train_classifier(given, colour_crops(pads), colour_crops(pads, seed=1)) == 0
    training = load_checkpoint(tmp_path / "run" / "last.pt").card.training
    assert training["options"]["label_space"] == "pads.json" and str(tmp_path) not in str(training)


def test_learned_weights_move_and_stay_out_of_the_model(tmp_path, colour_crops, arrows):
    given = options(tmp_path, epochs=1, learned_weights=True, class_weights="kind:red=3", focal=1.0)
    job = Job(classifier_task(given, arrows), colour_crops(), colour_crops(seed=1))
    assert fit(job, resume=False) == 0
    assert job.task.criterion.log_variances.abs().max() > 0
    kept = load_checkpoint(tmp_path / "run" / "last.pt")
    assert not any("log_variances" in name for name in kept.network.state_dict())
    assert kept.card.training["options"]["class_weights"] == "kind:red=3"


def test_a_training_that_has_diverged_ends_and_says_so(tmp_path, colour_crops):
    given = options(tmp_path, epochs=50, images_per_epoch=64, lr=1e30, clip=0.0, warm_up=0.0, schedule="constant")
    with pytest.raises(CheckError, match=r"in epoch \d+ the weights became NaN.*nothing was kept.*lower --lr"):
        train_classifier(given, colour_crops(), colour_crops(seed=1))
    assert not (tmp_path / "run" / "last.pt").exists()


def test_pictures_and_confusion_matrices_for_tensorboard(tmp_path, colour_crops):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train_classifier(options(tmp_path, epochs=1, images_per_epoch=64), colour_crops(), colour_crops(seed=1))
    board = EventAccumulator(str(tmp_path / "run" / "curves"))
    board.Reload()
    assert set(board.Tags()["images"]) == {"held_out/some", "held_out/worst", "confusion/kind", "confusion/mark"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_weights": "kind:rde=2"}, "'red'"),
        ({"head_weights": "kinds=2"}, "'kind'"),
        ({"stem_kernel": 4}, "cannot be built"),
        ({"activation": "silo"}, "'silu'"),
        ({"crop_size": 4}, "--crop-size must be within 8"),
    ],
)
def test_what_cannot_be_is_refused_with_the_nearest(tmp_path, arrows, changes, message):
    with pytest.raises(UsageError, match=message):
        classifier_task(options(tmp_path, **changes), arrows)


def test_the_flight_recipe_leaves_the_network_of_a_checkpoint_alone():
    flight = ClassifierOptions(name="a", **ClassifierOptions.recipes()["flight"])
    theirs = ClassifierConfig(filters=(16, 32), blocks=1)
    assert network_config(flight, theirs) == theirs
    assert network_config(flight).filters == (16, 48, 96, 160)
