import math

import pytest
import torch
from torch.nn import functional as F

from aerial_runtime.card import Head, LabelSpace, load_label_space
from aerial_train.losses import (
    ANGLE_ROUNDING,
    ANGLE_WEIGHT,
    NONE_OF_THEM,
    RAW_SHARE,
    UNKNOWN,
    HeadLosses,
    head_loss,
    heading_loss,
    parse_class_weights,
    parse_head_weights,
)

SUAS = load_label_space("suas")
LETTERS = SUAS.head("letter").classes
ANY_ANGLE = torch.tensor([name in ("O", "0") for name in LETTERS])
HALF_TURN = torch.tensor([name in "HINSXZ8" for name in LETTERS])
UP, DOWN, RIGHT = (0.0, -1.0), (0.0, 1.0), (1.0, 0.0)


def heading_of(letter, seen, truth):
    label = letter if isinstance(letter, int) else LETTERS.index(letter)
    return float(heading_loss(torch.tensor([seen]), torch.tensor([truth]), torch.tensor([label]), ANY_ANGLE, HALF_TURN))


def test_head_loss_is_cross_entropy_of_the_known():
    torch.manual_seed(0)
    logits, labels = torch.randn(5, 3), torch.tensor([0, UNKNOWN, 2, 1, UNKNOWN])
    assert float(head_loss(logits, labels)) == pytest.approx(float(F.cross_entropy(logits, labels, ignore_index=-1)))
    smooth = F.cross_entropy(logits, labels, ignore_index=-1, label_smoothing=0.1)
    assert float(head_loss(logits, labels, 0.1)) == pytest.approx(float(smooth))
    assert float(head_loss(logits, torch.full((5,), UNKNOWN))) == 0


def test_nothing_to_name_wants_an_even_answer():
    labels = torch.tensor([NONE_OF_THEM])
    even = float(head_loss(torch.zeros(1, 4), labels))
    assert even == pytest.approx(math.log(4))
    assert float(head_loss(torch.tensor([[2.0, 0.0, 0.0, 0.0]]), labels)) > even


def error_of(seen, truth):
    """Squared distance, and a share of the distance at equal length; both by hand, the second up to its rounding."""
    vectors = torch.tensor(seen, dtype=torch.float64), torch.tensor(truth, dtype=torch.float64)
    chord = torch.dist(vectors[0] / vectors[0].norm(), vectors[1])
    return pytest.approx(float(torch.dist(*vectors) ** 2 + ANGLE_WEIGHT * chord), abs=ANGLE_WEIGHT * ANGLE_ROUNDING)


def test_heading_loss_is_the_distance():
    assert heading_of("A", UP, UP) == pytest.approx(0, abs=1e-6)
    assert heading_of("A", RIGHT, UP) == error_of(RIGHT, UP)
    assert heading_of("A", DOWN, UP) == error_of(DOWN, UP)
    assert heading_of("A", (0.3, -0.4), UP) == error_of((0.3, -0.4), UP)
    assert heading_of(UNKNOWN, RIGHT, UP) == error_of(RIGHT, UP)  # the letter is unknown, its direction is not


@pytest.mark.parametrize("degrees", [1.0, 5.0, 45.0])
def test_a_small_angle_pulls_as_hard_as_a_large_one(degrees):
    """What a degree costs at first; of a squared distance alone it would be 30 times as little at 1 as at 45."""
    angles = torch.deg2rad(torch.tensor([degrees - 0.2, degrees + 0.2], dtype=torch.float64))
    losses = [heading_of("A", (math.sin(angle), -math.cos(angle)), UP) for angle in angles.tolist()]
    slope = (losses[1] - losses[0]) / float(angles[1] - angles[0])
    squared = 2 * math.sin(math.radians(degrees))
    assert slope - squared == pytest.approx(ANGLE_WEIGHT * math.cos(math.radians(degrees / 2)), rel=0.15)


def test_a_heading_without_length_has_a_slope():
    seen = torch.zeros(1, 2, requires_grad=True)
    heading_loss(seen, torch.tensor([UP]), torch.tensor([LETTERS.index("A")]), ANY_ANGLE, HALF_TURN).backward()
    assert seen.grad.isfinite().all() and seen.grad[0, 1] > 1


def test_symmetric_letters_accept_what_looks_the_same():
    """But for the share by which the true direction is asked of what shows it, such as a triangle."""
    assert heading_of("H", UP, UP) == pytest.approx(0, abs=1e-6)
    assert heading_of("H", DOWN, UP) == pytest.approx(RAW_SHARE * heading_of("A", DOWN, UP))
    assert heading_of("H", RIGHT, UP) == pytest.approx(heading_of("A", RIGHT, UP))
    short = (0.0, 0.6)
    nearer, true = heading_of("A", short, DOWN), heading_of("A", short, UP)
    assert heading_of("H", short, UP) == pytest.approx((1 - RAW_SHARE) * nearer + RAW_SHARE * true)
    assert heading_of("A", DOWN, UP) == heading_of(UNKNOWN, DOWN, UP)


def test_letters_of_any_angle_weigh_little_in_the_mean():
    truth, letters = torch.tensor([UP, UP]), torch.tensor([LETTERS.index("A"), LETTERS.index("O")])
    wrong_o = heading_loss(torch.tensor([UP, RIGHT]), truth, letters, ANY_ANGLE, HALF_TURN)
    assert float(wrong_o) == pytest.approx(RAW_SHARE * heading_of("A", RIGHT, UP) / (1 + RAW_SHARE), abs=1e-6)


def test_half_precision_is_for_the_network_alone():
    """Under autocast the outputs are bfloat16; the loss is that of the same numbers in float32."""
    halves = {name: value.bfloat16() for name, value in batch_outputs(3).items()}
    arguments = torch.ones(3), labels_of(0, 1, 2), torch.tensor([UP, DOWN, RIGHT])
    loss = HeadLosses(SUAS)(halves, *arguments)
    assert loss.dtype == torch.float32
    full = HeadLosses(SUAS)({name: value.float() for name, value in halves.items()}, *arguments)
    assert loss.item() == pytest.approx(full.item())


def test_unknown_heading_costs_nothing_and_no_letter_wants_no_direction():
    assert heading_of("A", RIGHT, (0.0, 0.0)) == 0
    assert heading_of(NONE_OF_THEM, RIGHT, (0.0, 0.0)) == pytest.approx(1)
    assert heading_of(NONE_OF_THEM, (0.0, 0.0), (0.0, 0.0)) == 0


def test_length_of_the_best_heading_is_the_concentration():
    """Three of four truths point up, one down: the mean vector has length 1/2."""
    truth = torch.tensor([UP, UP, UP, DOWN])
    labels = torch.full((4,), LETTERS.index("A"))
    lengths = torch.linspace(0, 1, 101)
    losses = [
        float(heading_loss(torch.tensor([[0.0, -float(x)]]).expand(4, 2), truth, labels, ANY_ANGLE, HALF_TURN))
        for x in lengths
    ]
    assert float(lengths[losses.index(min(losses))]) == pytest.approx(0.5)


def batch_outputs(count):
    torch.manual_seed(0)
    widths = {"shape": 13, "letter": 36, "shape_color": 10, "letter_color": 10, "target": 1, "heading": 2}
    return {name: torch.randn(count, width, requires_grad=True) for name, width in widths.items()}


def labels_of(*indices):
    return {head.name: torch.tensor(indices) for head in SUAS.heads}


def test_what_is_no_target_teaches_only_the_target_head():
    outputs = batch_outputs(2)
    heading = torch.tensor([UP, RIGHT])
    is_target = torch.tensor([1, 0], dtype=torch.uint8)
    losses = HeadLosses(SUAS).by_head(outputs, is_target, labels_of(1, 2), heading)
    assert set(losses) == set(outputs)
    HeadLosses(SUAS)(outputs, is_target, labels_of(1, 2), heading).backward()
    for name, values in outputs.items():
        assert values.grad is not None
        assert values.grad[0].abs().sum() > 0
        assert bool(values.grad[1].abs().sum() > 0) == (name == "target")


def test_a_batch_without_any_target_is_finite():
    outputs = batch_outputs(3)
    nobody_knows = torch.zeros(3, dtype=torch.uint8), labels_of(*[UNKNOWN] * 3), torch.zeros(3, 2)
    losses = HeadLosses(SUAS).by_head(outputs, *nobody_knows)
    assert all(loss.item() == 0 for name, loss in losses.items() if name != "target")
    assert losses["target"].item() > 0
    total = HeadLosses(SUAS)(outputs, *nobody_knows)
    assert total.item() == pytest.approx(losses["target"].item())


def test_a_label_space_without_heading_has_no_heading_loss():
    space = LabelSpace("pads", (Head("pad.kind", ("a", "b", "c")),))
    outputs = {"pad.kind": torch.randn(2, 3), "target": torch.randn(2, 1)}
    truth = torch.ones(2), {"pad.kind": torch.tensor([0, 2])}, torch.zeros(2, 2)
    losses = HeadLosses(space, learned_weights=True, class_weights={"pad.kind": {"a": 2}})
    assert set(losses.by_head(outputs, *truth)) == {"pad.kind", "target"}
    assert losses(outputs, *truth).isfinite()


TRUTH = torch.tensor([1, 1]), labels_of(1, 2), torch.tensor([UP, RIGHT])


def test_fixed_weights_multiply_and_zero_switches_off():
    parts = HeadLosses(SUAS).by_head(batch_outputs(2), *TRUTH)
    outputs = batch_outputs(2)
    total = HeadLosses(SUAS, head_weights={"letter": 2.0, "heading": 0.0})(outputs, *TRUTH)
    wanted = sum(float(part.detach()) for part in parts.values()) + float((parts["letter"] - parts["heading"]).detach())
    assert total.item() == pytest.approx(wanted, rel=1e-5)
    total.backward()
    assert outputs["heading"].grad.abs().sum() == 0


def test_learned_weights_by_hand():
    """exp(-s) L + s / 2, the heading's loss halved; at s = log(2 L), of the heading log L, nothing pulls at s."""
    losses = HeadLosses(SUAS, learned_weights=True, head_weights={"letter": 3.0})
    parts = {name: float(part.detach()) for name, part in losses.by_head(batch_outputs(2), *TRUTH).items()}
    parts["letter"] *= 3
    start = losses(batch_outputs(2), *TRUTH).item()
    assert start == pytest.approx(sum(parts.values()) - parts["heading"] / 2, rel=1e-5)
    best = {name: math.log(2 * part) for name, part in parts.items()} | {"heading": math.log(parts["heading"])}
    losses.log_variances.data = torch.tensor([best[name] for name in losses.names])
    total = losses(batch_outputs(2), *TRUTH)
    assert total.item() == pytest.approx(sum(0.5 + best[name] / 2 for name in parts), rel=1e-4)
    total.backward()
    assert losses.log_variances.grad.abs().max() < 1e-5


def test_learned_weights_stay_where_a_batch_teaches_nothing():
    losses = HeadLosses(SUAS, learned_weights=True, head_weights={"shape": 0.0})
    labels = labels_of(1, 2) | {"letter": torch.tensor([UNKNOWN, UNKNOWN])}
    losses(batch_outputs(2), TRUTH[0], labels, torch.zeros(2, 2)).backward()
    moved = dict(zip(losses.names, (losses.log_variances.grad != 0).tolist(), strict=True))
    assert [name for name, value in moved.items() if not value] == ["shape", "letter", "heading"]


def test_what_is_learned_is_found_as_a_parameter_and_nothing_else_is_kept():
    assert [name for name, _ in HeadLosses(SUAS, learned_weights=True).named_parameters()] == ["log_variances"]
    assert not HeadLosses(SUAS, class_weights={"letter": {"I": 2}}).state_dict()


def test_class_weights_weigh_the_mean():
    logits, labels = torch.randn(4, 3), torch.tensor([0, 1, 2, UNKNOWN])
    weights = torch.tensor([0.2, 1.0, 5.0])
    wanted = F.cross_entropy(logits, labels, weights, ignore_index=-1)
    assert float(head_loss(logits, labels, class_weights=weights)) == pytest.approx(float(wanted))
    empty = head_loss(torch.zeros(2, 3), torch.tensor([NONE_OF_THEM, 0]), class_weights=torch.tensor([3.0, 1, 1]))
    assert float(empty) == pytest.approx(math.log(3))
    mixed = head_loss(
        torch.tensor([[9.0, 0.0], [0.0, 0.0]]), torch.tensor([NONE_OF_THEM, 0]), class_weights=torch.tensor([3.0, 1.0])
    )
    nothing = float(head_loss(torch.tensor([[9.0, 0.0]]), torch.tensor([NONE_OF_THEM])))
    assert float(mixed) == pytest.approx((nothing + 3 * math.log(2)) / 4)


def test_class_weights_reach_their_head_alone():
    plain = HeadLosses(SUAS).by_head(batch_outputs(2), *TRUTH)
    heavy = HeadLosses(SUAS, class_weights={"letter": {LETTERS[1]: 3.0}}).by_head(batch_outputs(2), *TRUTH)
    assert {name for name in plain if not torch.equal(plain[name], heavy[name])} == {"letter"}


def test_focal_by_hand():
    logits = torch.log(torch.tensor([[0.8, 0.2], [0.8, 0.2]]))
    wanted = -(0.2**2 * math.log(0.8) + 0.8**2 * math.log(0.2)) / 2
    assert float(head_loss(logits, torch.tensor([0, 1]), focal=2)) == pytest.approx(wanted, rel=1e-5)
    nothing = torch.tensor([NONE_OF_THEM])
    assert float(head_loss(logits[:1], nothing, focal=2)) == pytest.approx(float(head_loss(logits[:1], nothing)))
    focal = HeadLosses(SUAS, focal=2.0).by_head(batch_outputs(2), *TRUTH)
    plain = HeadLosses(SUAS).by_head(batch_outputs(2), *TRUTH)
    assert all((focal[name] < plain[name]) == (name not in ("target", "heading")) for name in plain)


@pytest.mark.parametrize("options", [{}, {"focal": 0.5}, {"focal": 2}, {"label_smoothing": 0.1, "focal": 2}])
@pytest.mark.parametrize("size", [0.0, 100.0, 1e4])
def test_gradients_are_finite_at_the_extremes(options, size):
    for right in (True, False):
        outputs = {name: torch.zeros_like(values) for name, values in batch_outputs(3).items()}
        for values in outputs.values():
            values[:, min(1, values.shape[1] - 1) if right else 0] = size
            values.requires_grad_()
        losses = HeadLosses(SUAS, learned_weights=True, class_weights={"letter": {"I": 2}}, **options)
        total = losses(outputs, torch.tensor([1, 1, 0]), labels_of(1, NONE_OF_THEM, 1), torch.tensor([UP, UP, UP]))
        total.backward()
        assert total.isfinite() and all(values.grad.isfinite().all() for values in outputs.values())
        assert losses.log_variances.grad.isfinite().all()


def test_weights_are_read_from_text():
    assert parse_head_weights("letter=2, heading=0.5,target=0", SUAS) == {"letter": 2, "heading": 0.5, "target": 0}
    assert parse_head_weights("", SUAS) == {} == parse_class_weights("", SUAS)
    two = parse_class_weights("letter:I=2,1=2; shape:star=3", SUAS)
    assert two == {"letter": {"I": 2, "1": 2}, "shape": {"star": 3}}
    HeadLosses(SUAS, class_weights=two)


def test_confusable_is_what_a_head_can_mistake():
    assert parse_class_weights("confusable", SUAS) == {"letter": dict.fromkeys("I1LHZN0O", 2)}
    both = parse_class_weights("confusable;letter:I=5,Q=3", SUAS)
    assert both["letter"] == dict.fromkeys("1LHZN0O", 2) | {"I": 5, "Q": 3}
    pads = LabelSpace("pads", (Head("pad", ("H", "1", "Z")), Head("size", ("L", "M"))))
    assert parse_class_weights("confusable", pads) == {"pad": {"1": 2, "H": 2}}
    with pytest.raises(ValueError, match="'ships' has none"):
        parse_class_weights("confusable", LabelSpace("ships", (Head("kind", ("tug", "ferry")),)))


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (parse_head_weights, "leter=2", "no head 'leter'.*is 'letter'"),
        (parse_head_weights, "letter", "'letter' is no weight"),
        (parse_head_weights, "letter=two", "letter=2,heading=0.5"),
        (parse_head_weights, "letter=-1", "at least 0"),
        (parse_head_weights, "letter=nan", "at least 0"),
        (parse_head_weights, "letter=inf", "at least 0"),
        (parse_class_weights, "lettr:I=2", "no head 'lettr'.*is 'letter'"),
        (parse_class_weights, "confusible", "is 'confusable'"),
        (parse_class_weights, "target:1=2", "no head 'target'"),
        (parse_class_weights, "shape:stars=2", "no shape class 'stars'.*is 'star'"),
        (parse_class_weights, "letter:I", "'I' is no weight of a letter class"),
    ],
)
def test_text_that_names_nothing_known_is_refused_with_the_nearest(parse, text, message):
    with pytest.raises(ValueError, match=message):
        parse(text, SUAS)


def test_weights_of_what_is_not_there_are_refused():
    with pytest.raises(ValueError, match="is 'letter'"):
        HeadLosses(SUAS, head_weights={"letters": 1})
    with pytest.raises(ValueError, match="is 'shape'"):
        HeadLosses(SUAS, class_weights={"shapes": {"star": 1}})
    with pytest.raises(ValueError, match="is 'star'"):
        HeadLosses(SUAS, class_weights={"shape": {"sta": 1}})


@pytest.mark.parametrize("options", [{"focal": -1.0}, {"label_smoothing": 1.0}, {"label_smoothing": -0.1}])
def test_shares_that_cannot_be_are_refused(options):
    with pytest.raises(ValueError, match="focal must be at least 0 and label smoothing within"):
        HeadLosses(SUAS, **options)
