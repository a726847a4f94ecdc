from dataclasses import replace

import pytest
import torch

from aerial_runtime.config import Parser
from aerial_runtime.errors import ModelError, UsageError
from aerial_train import fit_segmenter
from aerial_train.checkpoint import Checkpoint, load_checkpoint
from aerial_train.fit import Job, fit
from aerial_train.fit_classifier import ClassifierOptions, classifier_task, network_config
from aerial_train.run_options import options_from
from aerial_train.transfer import grown, take_weights
from aerial_train.unet import UNetConfig
from aerial_train.unetpp import make_unet

BASE = ClassifierOptions(name="base", filters=(8, 16), blocks=1, crop_size=16, epochs=1, images_per_epoch=64, batch=16,
                         held_out=16, workers=0, threads=1, accelerator="cpu", average=0, logger="none")  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A trained classifier of ARROWS, made once."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def base(trained, colour_crops, arrows):
    """Return the checkpoint to start from."""
    path = trained / "base" / "best.pt"
    if not path.exists():
        train(replace(BASE, out=str(trained)), colour_crops(), arrows)
    return path


def train(options, data, space):
    assert fit(Job(classifier_task(options, space), data, type(data)(space, seed=1)), resume=False) == 0
    return load_checkpoint(options.run_dir / "last.pt").network.state_dict()


def test_it_starts_where_the_other_ended(base, tmp_path, arrows):
    task = classifier_task(replace(BASE, filters=(), blocks=0, out=str(tmp_path), init=str(base)), arrows)
    before = load_checkpoint(base).network.state_dict()
    assert task.network.config.filters == (8, 16)  # taken from there
    assert all(torch.equal(value, before[name]) for name, value in task.network.state_dict().items())


def test_what_the_other_had_can_be_switched_off():
    theirs = replace(network_config(BASE), dropout=0.3)
    assert network_config(BASE, theirs).dropout == 0.3
    assert network_config(replace(BASE, dropout=0.0), theirs).dropout == 0
    nest = UNetConfig(architecture="unetpp", deep_supervision=True, up_activation=True, dropout=0.3)
    parser = Parser()
    fit_segmenter.add_arguments(parser)

    def of(*words):
        options = options_from(parser.parse_args(["--name", "a", *words]), fit_segmenter.SegmenterOptions)
        return fit_segmenter.network_config(options, nest)

    assert of() == nest
    with pytest.raises(UsageError, match="not that of --preset fast"):
        of("--preset", "fast")
    with pytest.raises(UsageError, match="--freeze-epochs goes with --freeze"):
        of("--freeze-epochs", "2")
    switched_off = of("--no-deep-supervision", "--no-up-activation", "--dropout", "0")
    assert switched_off == UNetConfig(architecture="unetpp")
    assert of("--no-deep-supervision", "--architecture", "unet").architecture == "unet"


def test_a_nest_goes_on_without_its_supervision(kit):
    torch.manual_seed(0)
    theirs = UNetConfig(filters=(4, 8, 8), architecture="unetpp", deep_supervision=True)
    start = Checkpoint(make_unet(theirs), kit.segmenter_card())
    network = make_unet(replace(theirs, deep_supervision=False))
    take_weights(network, start, BASE)
    before = start.network.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_another_label_space_is_refused_unless_only_the_trunk_is_taken(base, tmp_path, pads):
    options = replace(BASE, out=str(tmp_path), init=str(base))
    with pytest.raises(UsageError, match=r"'arrows' and this run is for 'pads'.*--new-heads"):
        classifier_task(options, pads)
    fresh = classifier_task(replace(options, new_heads=True), pads).network.state_dict()
    before = load_checkpoint(base).network.state_dict()
    assert all(torch.equal(fresh[name], value) for name, value in before.items() if not name.startswith("heads."))
    assert fresh["heads.weight"].shape != before["heads.weight"].shape


def test_a_wider_network_begins_as_what_the_narrower_one_did(base, tmp_path, arrows, pads):
    options = replace(BASE, out=str(tmp_path), init=str(base), filters=(12, 24))
    wide, narrow = classifier_task(options, arrows).network.eval(), load_checkpoint(base).network
    crops = torch.randint(0, 256, (4, 16, 16, 3), dtype=torch.uint8)
    with torch.no_grad():
        for name, said in narrow(crops).items():
            torch.testing.assert_close(wide(crops)[name], said, rtol=1e-4, atol=1e-5)
    sum(said.sum() for said in wide(crops).values()).backward()  # what is new learns from the first step on
    assert wide.heads.weight.grad[:, 16:].abs().sum() > 0
    other = classifier_task(replace(options, new_heads=True), pads).network
    assert torch.equal(other.stem[0].weight[:8], narrow.stem[0].weight)


@pytest.mark.parametrize("change", [{}, {"up": "transpose", "stem": "patch4"}, {"architecture": "unetpp"}])
def test_a_wider_unet_begins_as_what_the_narrower_one_did(change):
    torch.manual_seed(0)
    config = UNetConfig(filters=(4, 6, 8), **change)
    narrow, wide = make_unet(config).eval(), make_unet(replace(config, filters=(6, 6, 12))).eval()
    weights = {**narrow.state_dict(), **grown(wide, narrow.state_dict())}
    wide.load_state_dict(weights)
    frames = torch.randint(0, 256, (2, 40, 52, 3), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(wide(frames), narrow(frames), rtol=1e-4, atol=1e-5)
    assert grown(narrow, wide.state_dict()) == {}


def test_what_does_not_fit_is_refused(base, tmp_path, arrows):
    options = replace(BASE, out=str(tmp_path), init=str(base))
    for smaller in ({"filters": (8, 12)}, {"filters": (8, 16, 32)}, {"blocks": 2}):
        with pytest.raises(ModelError, match="leave the network's options out"):
            classifier_task(replace(options, **smaller), arrows)
    with pytest.raises(UsageError, match=r"trained with --margin 1.3, this run has 1.5"):
        classifier_task(replace(options, margin=1.5), arrows)
    with pytest.raises(ModelError, match=r"none\.pt"):
        classifier_task(replace(options, init="none.pt"), arrows)


def test_frozen_parts_stay_and_the_rest_learns(base, tmp_path, colour_crops, arrows):
    options = replace(BASE, name="frozen", out=str(tmp_path), init=str(base), freeze=("stem", "trunk.0"))
    before, after = load_checkpoint(base).network.state_dict(), train(options, colour_crops(), arrows)
    for name, value in after.items():
        held = name.startswith(("stem.", "trunk.0."))
        assert torch.equal(value, before[name]) == held or "num_batches" in name, name


def test_frozen_parts_learn_after_their_epochs(base, tmp_path, colour_crops, arrows):
    options = replace(
        BASE, name="thawed", out=str(tmp_path), init=str(base), freeze=("stem",), freeze_epochs=1, epochs=2
    )
    before, after = load_checkpoint(base).network.state_dict(), train(options, colour_crops(), arrows)
    assert not torch.equal(before["stem.0.weight"], after["stem.0.weight"])
    assert not torch.equal(before["stem.1.running_mean"], after["stem.1.running_mean"])


def test_norms_can_keep_their_statistics(base, tmp_path, colour_crops, arrows):
    options = replace(BASE, name="norms", out=str(tmp_path), init=str(base), freeze_norms=True)
    before, after = load_checkpoint(base).network.state_dict(), train(options, colour_crops(), arrows)
    assert all(torch.equal(after[name], before[name]) for name in before if "running" in name)
    assert not torch.equal(before["stem.0.weight"], after["stem.0.weight"])


def test_a_part_that_there_is_not(tmp_path, arrows):
    with pytest.raises(UsageError, match=r"--freeze cannot find 'stam'.*'stem'"):
        classifier_task(replace(BASE, out=str(tmp_path), freeze=("stam",)), arrows)
    with pytest.raises(UsageError, match="nothing would learn"):
        classifier_task(replace(BASE, out=str(tmp_path), freeze=("stem", "trunk", "heads")), arrows)
