"""Temperatures and thresholds: chosen on one half, judged on the other."""

import msgspec
import numpy as np
import pytest

from aerial_runtime.card import Thresholds
from aerial_runtime.contract import Box
from aerial_train.evaluation.choose import choose_classifier, choose_segmenter, target_threshold
from aerial_train.evaluation.gather import CropOutcomes, FrameOutcome
from aerial_train.evaluation.scores import score_classifier
from aerial_train.scenes.frames import LabelledTarget


def outcomes(confidence, right, is_target=None, target=None):
    """Crops of the head `kind` with three classes, all labelled 0."""
    count = len(confidence)
    rest = (1 - np.asarray(confidence)) / 2
    given = np.stack([rest, rest, rest], axis=1)
    given[np.arange(count), np.where(right, 0, 1)] = confidence
    real = np.ones(count, bool) if is_target is None else is_target
    said = np.full(count, 0.9) if target is None else target
    return CropOutcomes(
        {"kind": given}, said, np.zeros((count, 2)), real, {"kind": np.where(real, 0, -1)}, np.zeros((count, 2)),
        np.full(count, 20.0), [f"c{i}" for i in range(count)], list(range(count)),
    )  # fmt: skip


def choose(kit, seen, error=0.05, **card):
    card = kit.classifier_card(**card)
    return choose_classifier(card, seen, score_classifier(seen, kit.tiny, card.thresholds), error)


def graded(count=400, seed=0):
    """Answers that are right as often as they say."""
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.4, 1, count)
    return confidence, rng.random(count) < confidence


def test_withheld_answers_keep_to_the_error(kit):
    confidence, right = graded(40_000)
    choice = choose(kit, outcomes(confidence, right), 0.2)
    (found,) = choice.abstentions
    assert found.threshold == choice.thresholds.abstain["kind"] > 0.5
    assert found.error == pytest.approx(0.2, abs=0.02) and 0.2 < found.coverage < 0.9
    assert found.chosen_on == found.measured_on == 20_000


def test_thresholds_are_for_calibrated_confidences(kit):
    """What is too sure by a temperature is first cooled, and the threshold stands against what then comes out."""
    confidence, right = graded(4000)
    odds = (confidence / ((1 - confidence) / 2)) ** 3  # as from a temperature of 1/3, of a head of three classes
    hot = odds / (odds + 2)
    plain, cooled = choose(kit, outcomes(confidence, right), 0.2), choose(kit, outcomes(hot, right), 0.2)
    assert cooled.temperature["kind"] == pytest.approx(3 * plain.temperature["kind"], rel=0.02)
    assert cooled.thresholds.abstain["kind"] == pytest.approx(plain.thresholds.abstain["kind"], abs=0.01)


def test_a_temperature_is_on_top_of_the_card_s(kit):
    seen = outcomes(*graded())
    once = choose(kit, seen).temperature["kind"]
    assert choose(kit, seen, temperature={"kind": 2.0}).temperature["kind"] == pytest.approx(2 * once)


def test_what_cannot_be_chosen_stays_and_is_said(kit):
    before = Thresholds(target=0.7, abstain={"kind": 0.4})
    hopeless = choose(kit, outcomes(np.full(200, 0.9), np.arange(200) % 4 < 2), 0.01, thresholds=before)
    assert hopeless.thresholds == before
    assert any("kind: no threshold keeps to an error of 1 %" in note for note in hopeless.notes)
    few = choose(kit, outcomes(*graded(20)), thresholds=before)
    assert few.thresholds == before and few.temperature == {}
    assert len(few.notes) == 3  # temperature, threshold, target


def test_a_few_right_answers_are_no_evidence(kit):
    confidence = np.where(np.arange(400) < 20, 0.99, 0.9)  # ten in each half, all right; of the rest every second
    choice = choose(kit, outcomes(confidence, (np.arange(400) < 20) | (np.arange(400) % 4 < 2)), 0.05)
    assert choice.abstentions == [] and "over 30 answers" in choice.notes[0]


def test_the_target_threshold_forgets_how_many_of_each_there_are():
    rng = np.random.default_rng(0)
    yes, no = rng.normal(0.7, 0.1, 3000).clip(0, 1), rng.normal(0.3, 0.1, 3000).clip(0, 1)
    many = target_threshold(np.concatenate((yes, no)), np.repeat([True, False], 3000))
    few = target_threshold(np.concatenate((yes, no[:300])), np.repeat([True, False], (3000, 300)))
    assert many == pytest.approx(0.5, abs=0.05) and few == pytest.approx(many, abs=0.05)


def test_the_target_threshold_of_a_card(kit):
    real = np.arange(80) % 4 < 2
    choice = choose(kit, outcomes(*graded(80), is_target=real, target=np.where(real, 0.3, 0.1)))
    assert 0.1 < choice.thresholds.target <= 0.5 and "target" in choice.temperature


def test_mask_threshold(kit):
    """A board seen with 120 of 255 in each frame, and something else seen with 60."""
    target = LabelledTarget(Box(40, 40, 24, 24), {}, {}, None, False)

    def frame(index, complete):
        probability = np.zeros((40, 40), np.uint8)
        probability[10:16, 10:16], probability[30:35, 30:35] = 120, 60
        coverage = np.where(probability == 120, 255, 0).astype(np.uint8)
        return FrameOutcome(
            index, "f", 160, 160, probability, coverage, np.ones_like(coverage), (target,), complete
        )  # fmt: skip

    card = kit.segmenter_card(thresholds=Thresholds(mask=0.1))
    choice = choose_segmenter(card, [frame(index, True) for index in range(80)], 4)
    assert choice.thresholds.mask == pytest.approx(0.45)  # the highest of those that find all and only boards
    assert choice.mask.labels == 40 and (choice.mask.recall, choice.mask.precision) == (1, 1)
    unknown = choose_segmenter(card, [frame(index, False) for index in range(80)], 4)
    assert unknown.thresholds == card.thresholds and "threshold stays" in unknown.notes[0]
    assert msgspec.structs.asdict(unknown.thresholds)["mask"] == 0.1
