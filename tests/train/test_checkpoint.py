import os

import msgspec
import pytest
import torch

from aerial_runtime.card import ModelCard, load_label_space
from aerial_runtime.errors import ModelError, ResourceError
from aerial_train.checkpoint import (
    classifier_tensors,
    load_checkpoint,
    save_checkpoint,
    segmenter_tensors,
    weights_sha256,
)
from aerial_train.classifier import Classifier, ClassifierConfig
from aerial_train.unet import UNet, UNetConfig
from aerial_train.unetpp import make_unet

SUAS = load_label_space("suas")
COMMON = {"name": "m", "label_space": SUAS, "crop_margin": 1.3}


def segmenter_card():
    inputs, outputs = segmenter_tensors(4)
    return ModelCard(kind="segmenter", stride=4, inputs=inputs, outputs=outputs, **COMMON)


def classifier_card():
    inputs, outputs = classifier_tensors(SUAS, 32)
    return ModelCard(kind="classifier", crop_size=32, inputs=inputs, outputs=outputs, **COMMON)


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "model.pt"
    save_checkpoint(path, UNet(UNetConfig(filters=(4, 8))), segmenter_card())
    return path


def rewrite(path, change):
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


@pytest.mark.parametrize(
    ("network", "card"),
    [
        (UNet(UNetConfig(filters=(4, 8), skip="concat", padding="valid", down="stride", kernel=5)), segmenter_card()),
        (make_unet(UNetConfig(filters=(4, 8, 8), architecture="unetpp", deep_supervision=True)), segmenter_card()),
        (Classifier(ClassifierConfig(filters=(4, 8)), SUAS), classifier_card()),
    ],
    ids=["segmenter", "nested segmenter", "classifier"],
)
def test_round_trip(tmp_path, network, card):
    kept = save_checkpoint(tmp_path / "m.pt", network, card)
    loaded = load_checkpoint(tmp_path / "m.pt", card.kind)
    assert loaded.card == kept == msgspec.structs.replace(card, weights_sha256=weights_sha256(network.state_dict()))
    assert type(loaded.network) is type(network) and loaded.network.config == network.config
    assert not loaded.network.training
    weights = loaded.network.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in network.state_dict().items())
    assert [file.name for file in tmp_path.iterdir()] == ["m.pt"]


def test_a_configuration_from_before_an_option_means_its_default(saved):
    def forget(content):
        for name in list(content["network"])[list(content["network"]).index("padding") :]:
            del content["network"][name]

    rewrite(saved, forget)
    assert load_checkpoint(saved).network.config == UNetConfig(filters=(4, 8))


def test_hash_follows_the_weights():
    weights = {"a": torch.zeros(2, 3), "b": torch.tensor(1)}
    same = {"b": torch.tensor(1), "a": torch.zeros(3, 2).T}
    assert weights_sha256(weights) == weights_sha256(same)
    assert weights_sha256(weights) != weights_sha256({**weights, "a": torch.zeros(3, 2)})
    assert weights_sha256(weights) != weights_sha256({**weights, "a": torch.full((2, 3), 1e-30)})


def test_missing_file(tmp_path):
    with pytest.raises(ModelError, match=r"none\.pt"):
        load_checkpoint(tmp_path / "none.pt")


def test_other_kind(saved):
    with pytest.raises(ModelError, match="is a segmenter, a classifier is needed"):
        load_checkpoint(saved, "classifier")


@pytest.mark.parametrize("damage", [b"hello", b"", None], ids=["text", "empty", "cut"])
def test_damaged_file(saved, damage):
    saved.write_bytes(saved.read_bytes()[:-2000] if damage is None else damage)
    with pytest.raises(ModelError, match="damaged or no checkpoint"):
        load_checkpoint(saved)


def test_foreign_checkpoint(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "m.pt")
    with pytest.raises(ModelError, match="no checkpoint of aerial-train"):
        load_checkpoint(tmp_path / "m.pt")


class Payload:
    """Would run code on loading, if pickles were trusted."""

    def __reduce__(self):
        return (print, ("pickle ran",))


def test_a_pickle_runs_no_code(tmp_path, capsys):
    torch.save({"weights": Payload()}, tmp_path / "m.pt")
    with pytest.raises(ModelError, match="damaged or no checkpoint"):
        load_checkpoint(tmp_path / "m.pt")
    assert "pickle ran" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("aerial.card"), "no model card"),
        (lambda content: content.update({"aerial.card": "{}"}), "model card in .* is not valid"),
        (lambda content: content.update(format="aerial.checkpoint/9"), "aerial.checkpoint/9"),
        (lambda content: content["weights"]["head.bias"].add_(1), "not those its card describes"),
        (lambda content: content["network"].update(filters=(4, 9)), "does not fit its weights"),
        (lambda content: content["network"].update(stem="patch3"), "does not fit its weights"),
    ],
)
def test_what_is_not_whole_is_refused(saved, change, message):
    rewrite(saved, change)
    with pytest.raises(ModelError, match=message):
        load_checkpoint(saved)


def test_diverged_weights_are_refused(tmp_path):
    network = UNet(UNetConfig(filters=(4, 8)))
    network.head.weight.data.fill_(float("nan"))
    save_checkpoint(tmp_path / "model.pt", network, segmenter_card())
    with pytest.raises(ModelError, match="NaN"):
        load_checkpoint(tmp_path / "model.pt")


def test_unwritable_place_is_a_resource_error(tmp_path):
    with pytest.raises(ResourceError, match="choose another"):
        save_checkpoint(tmp_path / "no" / "m.pt", UNet(UNetConfig(filters=(4,))), segmenter_card())
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="choose another"):
        save_checkpoint(tmp_path / "file" / "m.pt", UNet(UNetConfig(filters=(4,))), segmenter_card())


def test_a_failed_write_leaves_the_old_file(saved, monkeypatch):
    before = saved.read_bytes()

    def full_disk(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(ResourceError, match="No space left"):
        save_checkpoint(saved, UNet(UNetConfig(filters=(4, 8))), segmenter_card())
    assert saved.read_bytes() == before
    assert [file.name for file in saved.parent.iterdir()] == ["model.pt"]


def test_an_interrupt_leaves_the_old_file_alone(saved, monkeypatch):
    def interrupted(_descriptor):
        raise KeyboardInterrupt

    before = saved.read_bytes()
    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(saved, UNet(UNetConfig(filters=(4, 8))), segmenter_card())
    assert list(saved.parent.iterdir()) == [saved] and saved.read_bytes() == before


def test_on_a_full_disk_the_old_file_stays(saved, size_limit):
    before = saved.read_bytes()
    with size_limit(50_000), pytest.raises(ResourceError, match=r"model\.pt \(File too large\)"):
        save_checkpoint(saved, UNet(UNetConfig(filters=(32, 64))), segmenter_card())
    assert saved.read_bytes() == before
    assert [file.name for file in saved.parent.iterdir()] == ["model.pt"]
