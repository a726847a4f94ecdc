from aerial_train.checkpoint import load_checkpoint
from aerial_train.fit_classifier import ClassifierOptions, train_classifier


def options(folder, **changes):
    values = {"filters": (8, 16), "blocks": 1, "crop_size": 16, "epochs": 4, "images_per_epoch": 512, "batch": 32}
    return ClassifierOptions(name="run", out=str(folder), held_out=64, workers=0, threads=1, **values | changes)


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
