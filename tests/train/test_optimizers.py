import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from aerial_train.classifier import Classifier, ClassifierConfig
from aerial_train.fit_segmenter import SegmenterOptions
from aerial_train.muon import Muon
from aerial_train.optimizers import (
    lr_factor,
    make_optimizer,
    make_plateau,
    make_scheduler,
    network_stages,
    parameter_groups,
)
from aerial_train.unet import UNet, UNetConfig

OPTIONS = SegmenterOptions(name="a", epochs=10, images_per_epoch=640, batch=64, warm_up=0.1)
TOTAL, WARM_UP = 100, 10


@pytest.mark.parametrize("schedule", ["one-cycle", "cosine", "step", "constant"])
def test_the_warm_up_rises_to_the_highest_rate_and_nothing_is_above_it(schedule):
    factor = lr_factor(replace(OPTIONS, schedule=schedule), TOTAL, WARM_UP)
    values = [factor(step) for step in range(TOTAL)]
    top = values.index(max(values))
    assert top in (WARM_UP - 1, WARM_UP) and values[top] == pytest.approx(1.0) and values[0] < 0.2
    assert values[: top + 1] == sorted(values[: top + 1]) and values[top:] == sorted(values[top:], reverse=True)


def test_where_the_schedules_end():
    ends = {name: lr_factor(replace(OPTIONS, schedule=name), TOTAL, WARM_UP)(TOTAL - 1) for name in
            ("one-cycle", "cosine", "step", "constant")}  # fmt: skip
    assert ends["one-cycle"] == pytest.approx(4e-6)
    assert ends["cosine"] == pytest.approx(1e-3)
    assert ends["step"] == pytest.approx(0.01)  # two drops by 0.1
    assert ends["constant"] == 1.0


def test_one_cycle_is_that_of_torch():
    weight = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], 1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=100, pct_start=0.1, cycle_momentum=False)
    ours = lr_factor(replace(OPTIONS, schedule="one-cycle"), 100, 10)
    for step in range(100):
        assert ours(step) == pytest.approx(theirs.get_last_lr()[0], abs=1e-6), step
        optimizer.step()
        if step < 99:
            theirs.step()


def test_steps_fall_at_their_shares():
    factor = lr_factor(replace(OPTIONS, schedule="step", step_at=(0.5, 0.9), step_factor=0.5), TOTAL, WARM_UP)
    assert [factor(step) for step in (49, 50, 89, 90)] == [1.0, 0.5, 0.5, 0.25]


def test_plateau_lowers_what_the_warm_up_has_raised():
    weight = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], 1.0)
    options = replace(OPTIONS, schedule="plateau", patience=0, step_factor=0.5)
    warm, plateau = make_scheduler(optimizer, options, TOTAL), make_plateau(optimizer, options)
    rates = []
    for _ in range(12):
        optimizer.step()
        warm.step()
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == sorted(rates) and rates[-1] == pytest.approx(1.0)
    for score in (0.5, 0.4):
        plateau.step(score)
    optimizer.step()
    warm.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5)


def test_norms_and_biases_do_not_decay_and_every_weight_is_moved_once():
    network = UNet(UNetConfig(filters=(4, 8)))
    groups = parameter_groups(network, 0.1, 1.0)
    decayed, others = groups
    assert all(p.ndim > 1 for p in decayed["params"]) and all(p.ndim == 1 for p in others["params"])
    assert others["weight_decay"] == 0 and "weight_decay" not in decayed
    assert sorted(map(id, decayed["params"] + others["params"])) == sorted(map(id, network.parameters()))


def test_stages_before_the_last_learn_more_slowly(arrows):
    network = Classifier(ClassifierConfig(filters=(4, 8), blocks=1), arrows)
    names = [name for name, _ in network_stages(network)]
    assert names == ["stem", "trunk.0", "trunk.1", "heads"]
    rates = {group["lr"] for group in parameter_groups(network, 1.0, 0.5)}
    assert rates == {1.0, 0.5, 0.25, 0.125}
    stem = next(iter(network.stem.parameters()))
    assert next(g["lr"] for g in parameter_groups(network, 1.0, 0.5) if any(p is stem for p in g["params"])) == 0.125


@pytest.mark.parametrize(("name", "kind"), [("adamw", torch.optim.AdamW), ("muon", Muon), ("sgd", torch.optim.SGD)])
def test_the_optimiser_holds_the_weights_of_the_loss_too(name, kind):
    criterion = nn.Module()
    criterion.weights = nn.Parameter(torch.zeros(3))
    optimizer = make_optimizer(UNet(UNetConfig(filters=(4,))), criterion, replace(OPTIONS, optimizer=name, lr=0.1))
    assert type(optimizer) is kind
    last = optimizer.param_groups[-1]
    assert last["params"][0] is criterion.weights and last["weight_decay"] == 0
    assert math.isclose(optimizer.param_groups[0]["lr"], 0.1)
