"""One network of several."""

from __future__ import annotations

import msgspec
import pytest
import torch

from aerial_runtime.card import LabelSpace, ModelCard, Thresholds, load_label_space
from aerial_train.checkpoint import (
    build_network,
    classifier_tensors,
    load_checkpoint,
    save_checkpoint,
    segmenter_tensors,
)
from aerial_train.cli import main

SUAS = load_label_space("suas")


@pytest.fixture
def make(tmp_path):
    """Return a function that writes a small classifier with weights of its own: (name, seed, network) -> path."""

    def write(name: str, seed: int, space: LabelSpace = SUAS, **network: object):
        inputs, outputs = classifier_tensors(space, 16)
        card = ModelCard(
            kind="classifier", name=name, label_space=space, inputs=inputs, outputs=outputs, crop_margin=1.3,
            crop_size=16, thresholds=Thresholds(target=0.1 * seed), scores={"shape": 0.9},
            training={"seed": seed, "data": "synthetic scenes", "evaluated": {"count": "8"}},
        )  # fmt: skip
        torch.manual_seed(seed)
        made = build_network(card, {"filters": (4, 8), "blocks": 1, **network})
        made.stem[0](torch.rand(2, 3, 16, 16))  # statistics of its own
        save_checkpoint(tmp_path / f"{name}.pt", made, card)
        return tmp_path / f"{name}.pt"

    return write


def test_every_weight_and_statistic_is_the_mean(make, tmp_path, capsys):
    paths = [make(name, seed) for seed, name in enumerate("abc", 1)]
    out = tmp_path / "mean.pt"
    assert main(["average", *map(str, paths), "--out", str(out)]) == 0
    assert "mean of 3 networks" in capsys.readouterr().out
    states = [load_checkpoint(path).network.state_dict() for path in paths]
    mean = load_checkpoint(out)
    for key, value in mean.network.state_dict().items():
        parts = [state[key] for state in states]
        if value.is_floating_point():
            torch.testing.assert_close(value, sum(parts) / 3, rtol=1e-5, atol=1e-7)
            assert value.dtype == parts[0].dtype
        else:
            assert torch.equal(value, parts[0])
    assert not torch.equal(states[0]["heads.weight"], states[1]["heads.weight"])
    # The same network twice is itself.
    assert main(["average", str(paths[0]), str(paths[0]), "--out", str(tmp_path / "same.pt")]) == 0
    same = load_checkpoint(tmp_path / "same.pt")
    assert same.card.weights_sha256 == load_checkpoint(paths[0]).card.weights_sha256


def test_the_card_says_what_it_is_made_of_and_claims_no_score(make, tmp_path):
    paths = [make("a", 3), make("b", 5)]
    assert main(["average", *map(str, paths), "--out", str(tmp_path / "mean.pt")]) == 0
    card = load_checkpoint(tmp_path / "mean.pt").card
    assert (card.name, card.scores, card.thresholds.target) == ("mean", {}, pytest.approx(0.3))
    assert card.training["seed"] == 3 and "evaluated" not in card.training
    parts = card.training["mean_of"]
    assert [(part["name"], part["training"]["seed"]) for part in parts] == [("a", 3), ("b", 5)]
    assert [part["weights_sha256"] for part in parts] == [load_checkpoint(path).card.weights_sha256 for path in paths]


def test_what_has_no_mean_is_refused(make, tmp_path, capsys):
    first, out = make("a", 1), tmp_path / "mean.pt"

    def refused(code: int, *models: object) -> str:
        assert main(["average", *map(str, models), "--out", str(out)]) == code
        assert not out.exists()
        return capsys.readouterr().err

    assert "give two or more" in refused(2, first)
    assert "differ in their network" in refused(3, first, make("wide", 2, filters=(8, 8)))
    fewer = msgspec.structs.replace(SUAS, name="fewer")
    assert "differ in their label space" in refused(3, first, make("other", 2, fewer))
    inputs, outputs = segmenter_tensors(4)
    card = ModelCard(
        kind="segmenter", name="s", label_space=SUAS, inputs=inputs, outputs=outputs, crop_margin=1.3, stride=4
    )
    save_checkpoint(tmp_path / "s.pt", build_network(card, {"filters": (4, 8)}), card)
    assert "differ in their kind" in refused(3, first, tmp_path / "s.pt")
    assert "cannot read" in refused(3, first, tmp_path / "none.pt")


def test_a_checkpoint_that_is_there_is_kept_unless_told_otherwise(make, tmp_path, capsys):
    paths = [str(make("a", 1)), str(make("b", 2))]
    out = tmp_path / "mean.pt"
    out.write_bytes(b"old")
    assert main(["average", *paths, "--out", str(out)]) == 2
    assert "give --overwrite" in capsys.readouterr().err and out.read_bytes() == b"old"
    assert main(["average", *paths, "--out", str(out), "--overwrite"]) == 0
    assert load_checkpoint(out).card.name == "mean"
