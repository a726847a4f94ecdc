import math
import re

import pytest
import torch
from torch.nn import functional as F

from aerial_train.mask_losses import mask_loss

ALL = ("jaccard", "dice", "tversky(0.3,0.7)", "bce", "focal(2)", "focal(0.5)", "jaccard+bce")
REGIONS = ("jaccard", "dice", "tversky(0.3,0.7)")
CERTAIN = 40.0  # a logit whose sigmoid is 1 in float32


def row(*values):
    return torch.tensor(values).reshape(1, 1, 1, -1)


def logit(*probabilities):
    return torch.logit(row(*probabilities))


def loss_of(text, logits, coverage, weight=None, **options):
    return float(mask_loss(text, **options)(logits, coverage, torch.ones_like(coverage) if weight is None else weight))


# One cell right, one false, one missed, one rightly empty: computed by hand.
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("jaccard", 1 - 1 / 3),
        ("dice", 1 - 2 / 4),
        ("tversky(1,1)", 1 - 1 / 3),
        ("tversky(0.3,0.5)", 1 - 1 / 1.8),
        ("0.5*dice + 2*jaccard", 0.25 + 4 / 3),
    ],
)
def test_regions_of_hard_masks(text, value):
    seen, truth = row(CERTAIN, CERTAIN, -CERTAIN, -CERTAIN), row(1.0, 0.0, 1.0, 0.0)
    assert loss_of(text, seen, truth) == pytest.approx(value, abs=1e-5)


def test_false_and_missed_have_their_own_price():
    false, missed = row(CERTAIN, CERTAIN), row(CERTAIN, -CERTAIN)
    assert loss_of("tversky(0.3,0.7)", false, row(1.0, 0.0)) == pytest.approx(0.3 / 1.3, abs=1e-5)
    assert loss_of("tversky(0.3,0.7)", missed, row(1.0, 1.0)) == pytest.approx(0.7 / 1.7, abs=1e-5)


def test_regions_of_soft_masks_by_hand():
    seen, truth = logit(0.2, 0.9), row(0.5, 0.5)  # both 0.2 + 0.5, too much 0.4, too little 0.3
    assert loss_of("jaccard", seen, truth) == pytest.approx(1 - 0.7 / 1.4, abs=1e-5)
    assert loss_of("dice", seen, truth) == pytest.approx(1 - 1.4 / 2.1, abs=1e-5)
    assert loss_of("tversky(0.3,0.7)", seen, truth) == pytest.approx(1 - 0.7 / (0.7 + 0.12 + 0.21), abs=1e-5)


def test_cells_one_by_one_by_hand():
    seen, truth = logit(0.8, 0.8), row(1.0, 0.0)
    assert loss_of("bce", seen, truth) == pytest.approx(-(math.log(0.8) + math.log(0.2)) / 2, rel=1e-5)
    focal = -(0.2**2 * math.log(0.8) + 0.8**2 * math.log(0.2)) / 2
    assert loss_of("focal(2)", seen, truth) == pytest.approx(focal, rel=1e-5)
    assert loss_of("focal(1)", logit(0.8), row(0.0)) == pytest.approx(-0.8 * math.log(0.2), rel=1e-5)
    assert loss_of("focal(0)", seen, truth) == pytest.approx(loss_of("bce", seen, truth))
    soft = -(0.3**2) * (0.5 * math.log(0.8) + 0.5 * math.log(0.2))
    assert loss_of("focal(2)", logit(0.8), row(0.5)) == pytest.approx(soft, rel=1e-5)


@pytest.mark.parametrize("text", ALL)
def test_the_best_answer_to_a_soft_cell_is_its_coverage(text):
    probabilities = [p / 20 for p in range(1, 20)]
    losses = [loss_of(text, logit(p), row(0.35)) for p in probabilities]
    assert probabilities[losses.index(min(losses))] == 0.35
    if text in REGIONS:
        assert min(losses) == pytest.approx(0, abs=1e-5)


def test_nothing_seen_where_nothing_is_costs_nothing():
    for text in ALL:
        assert loss_of(text, row(-CERTAIN, -CERTAIN), row(0.0, 0.0)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize("text", ALL)
def test_cells_without_weight_do_not_count(text, per_image):
    torch.manual_seed(0)
    logits = torch.randn(2, 1, 4, 4, requires_grad=True)
    coverage, weight = torch.rand(2, 1, 4, 4), torch.ones(2, 1, 4, 4)
    weight[0, 0, 1, 2] = 0
    criterion = mask_loss(text, per_image)
    loss = criterion(logits, coverage, weight)
    other = coverage.clone()
    other[0, 0, 1, 2] = 1 - other[0, 0, 1, 2]
    assert torch.equal(criterion(logits, other, weight), loss)
    loss.backward()
    assert logits.grad[0, 0, 1, 2] == 0
    assert (logits.grad != 0).sum() == 31
    assert loss_of(text, logits.detach(), coverage, torch.zeros_like(weight), per_image=per_image) == pytest.approx(
        0, abs=1e-6
    )


@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize("text", ALL)
@pytest.mark.parametrize("truth", [0.0, 0.5, 1.0])
def test_gradients_are_finite_at_the_extremes(text, truth, per_image):
    values = [-1e4, -100.0, 0.0, 100.0, 1e4]
    for seen in (*([value] * 5 for value in values), values):
        logits = row(*seen).clone().requires_grad_()
        loss = mask_loss(text, per_image)(logits, torch.full_like(logits, truth), torch.ones_like(logits))
        loss.backward()
        assert loss.isfinite() and logits.grad.isfinite().all()


@pytest.mark.parametrize("text", ALL)
def test_logits_in_half_precision_are_summed_in_single(text):
    logits, truth = torch.full((1, 1, 300, 300), 9.0), torch.ones(1, 1, 300, 300)  # the sigmoid is 1 in half precision
    assert loss_of(text, logits.half(), truth) == pytest.approx(loss_of(text, logits, truth), rel=1e-4)


@pytest.mark.parametrize("text", ALL)
def test_per_image_the_mean_over_processes_is_the_loss_of_the_whole_batch(text):
    torch.manual_seed(0)
    logits, coverage = torch.randn(4, 1, 3, 5), torch.rand(4, 1, 3, 5)
    weight = (torch.rand(4, 1, 3, 5) > 0.3).float()
    weight[3] = 0  # nothing is known of this image: it counts as right
    halves = [loss_of(text, *(x[part] for x in (logits, coverage, weight)), per_image=True)
              for part in (slice(0, 2), slice(2, 4))]  # fmt: skip
    whole = loss_of(text, logits, coverage, weight, per_image=True)
    assert whole == pytest.approx(sum(halves) / 2, rel=1e-5)
    assert whole != pytest.approx(loss_of(text, logits, coverage, weight), rel=1e-3)


def test_the_default_is_cross_entropy_and_jaccard_of_the_batch():
    torch.manual_seed(0)
    logits, coverage, weight = torch.randn(3, 1, 4, 4), torch.rand(3, 1, 4, 4), (torch.rand(3, 1, 4, 4) > 0.2).float()
    probability = torch.sigmoid(logits)
    entropy = F.binary_cross_entropy_with_logits(logits, coverage, weight, reduction="sum") / weight.sum()
    overlap = (torch.minimum(probability, coverage) * weight).sum() / (
        torch.maximum(probability, coverage) * weight
    ).sum()
    assert loss_of("jaccard+bce", logits, coverage, weight) == pytest.approx(float(entropy + 1 - overlap), rel=1e-5)


def test_several_columns_count_by_their_mean():
    torch.manual_seed(0)
    columns, coverage = [torch.randn(2, 1, 3, 3) for _ in range(3)], torch.rand(2, 1, 3, 3)
    alone = [loss_of("dice+bce", column, coverage) for column in columns]
    assert loss_of("dice+bce", columns, coverage) == pytest.approx(sum(alone) / 3)


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("jacard", "jaccard"),
        ("jaccard+", "nearest"),
        ("IoU", "nearest"),
        ("dice+bcee", "'bce'"),
        ("focal", "focal(2)"),
        ("focal(2,3)", "focal(2)"),
        ("focal(-1)", "focal(2)"),
        ("focal(nan)", "focal(2)"),
        ("tversky(0.3)", "tversky(0.3,0.7)"),
        ("tversky(0,0)", "tversky(0.3,0.7)"),
        ("twersky(0.3,0.7)", "tversky(0.3,0.7)"),
        ("dice(2)", "dice"),
        ("2dice", "dice"),
        ("-1*dice", "dice"),
        ("0*dice", "dice"),
        ("", "nearest"),
    ],
)
def test_a_text_that_cannot_be_read_is_refused_with_the_nearest(text, near):
    with pytest.raises(ValueError, match=re.escape(near)) as caught:
        mask_loss(text)
    assert "\n" not in str(caught.value) and repr(text) in str(caught.value)
