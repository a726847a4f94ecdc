"""The scoring rules, one by one."""

import json

import msgspec
import pytest

from aerial_runtime.contract import Attribute, Box, Detections, FrameInfo, Target, TimingMs
from aerial_runtime.errors import InputError
from aerial_runtime.label_file import LabelledBox, LabelledFrame, read_labels
from aerial_runtime.score import format_score, match_targets, read_detections, score_flight, unlabelled


def target(x, y, w, h, confidence=0.9, **labels):
    attributes = {name: Attribute(label, 0.9) for name, label in labels.items()}
    return Target(Box(x, y, w, h), w * h, confidence, attributes)


def message(name, *targets):
    return Detections("s", 0, 0, FrameInfo(name, 0, 100, 100, 0, 0), TimingMs(0, 0, 0, 0), 0, {}, list(targets))


def score_one(labels, *targets, complete=True):
    return score_flight([LabelledFrame("a", labels, complete)], [message("a", *targets)])


def test_found_missed_and_extra():
    score = score_one([LabelledBox(10, 10, 30, 30), LabelledBox(60, 60, 30, 30)],
                      target(12, 12, 30, 30), target(80, 5, 15, 15))  # fmt: skip
    assert (score.labels, score.found, score.extra) == (2, 1, 1)
    assert score.missed == ["a x=60 y=60 30x30"] and score.extras == ["a x=80 y=5 15x15"]


def test_one_detection_a_label_the_more_confident_one():
    score = score_one([LabelledBox(10, 10, 30, 30, attributes={"shape": "star"})],
                      target(10, 10, 30, 30, 0.5, shape="cross"),
                      target(11, 11, 30, 30, 0.8, shape="star"))  # fmt: skip
    assert (score.found, score.extra) == (1, 1)
    assert score.attributes["shape"].right == 1


@pytest.mark.parametrize(
    ("box", "found"),
    [
        ((10, 10, 40, 40), 1),
        ((30, 30, 40, 40), 0),  # IoU 400 / 2800 = 0.14, centre outside
        ((20, 20, 20, 20), 1),  # IoU 0.25
        ((16, 20, 24, 17), 1),  # IoU 0.255
        ((22, 20, 19, 18), 0),  # IoU 0.21; inside, but 4.7 times smaller
        ((2, 2, 70, 70), 1),  # centre inside and 3.06 times larger
        ((0, 0, 90, 90), 0),  # 5 times larger: IoU 0.198
    ],
)
def test_what_matches(box, found):
    assert score_one([LabelledBox(10, 10, 40, 40)], target(*box)).found == found


def test_truncated_and_tiny_labels_count_neither_way():
    labels = [LabelledBox(0, 0, 30, 30, truncated=True), LabelledBox(50, 50, 16, 16), LabelledBox(70, 70, 17, 10)]
    score = score_one(labels, target(0, 0, 30, 30), target(50, 50, 16, 16))
    assert (score.labels, score.found, score.extra, score.ignored) == (1, 0, 0, 2)


def test_incomplete_labels_have_no_extras():
    assert score_one([], target(5, 5, 20, 20), complete=False).extra == 0
    assert score_one([], target(5, 5, 20, 20)).extra == 1


def test_null_is_not_scored_and_abstaining_is_wrong():
    label = LabelledBox(10, 10, 30, 30, attributes={"shape": "star", "letter": None, "shape_color": "red"})
    score = score_one([label], target(10, 10, 30, 30, shape=None, letter="A", shape_color="red"))
    assert "letter" not in score.attributes
    assert (score.attributes["shape"].known, score.attributes["shape"].answered, score.attributes["shape"].right) == (
        1,
        0,
        0,
    )
    assert score.attributes["shape_color"].right == 1
    assert score.all_known == 0, "not all four are known"


def test_labels_of_datasets_that_count_neither_way(tmp_path):
    file = tmp_path / "labels.json"
    place = {"x": 10, "y": 10, "w": 30, "h": 30}
    seen = {**place, "shape": "star", "letter": "none"}
    file.write_text(json.dumps([{"image": "a", "targets": [seen, {**place, "x": 60, "ignored": True}]}]))
    score = score_flight(read_labels(file), [message("a", target(10, 10, 30, 30, shape="star", letter="A"))])
    assert (score.labels, score.found, score.ignored) == (1, 1, 1)
    assert score.attributes["shape"].right == 1 and "letter" not in score.attributes
    assert not score.warnings


def test_true_and_false_may_be_text(tmp_path):
    file, place = tmp_path / "labels.json", {"x": 10, "y": 10, "w": 30, "h": 30}
    targets = [{**place, "truncated": "false"}, {**place, "x": 60, "ignored": "1"}]
    file.write_text(json.dumps([{"image": "a", "targets": targets, "complete": "false"}]))
    (frame,) = read_labels(file)
    assert [label.scored for label in frame.targets] == [True, False] and not frame.complete
    file.write_text(json.dumps([{"image": "a", "targets": [{**place, "truncated": "perhaps"}]}]))
    with pytest.raises(InputError, match="a: truncated is 'perhaps'; write true or false"):
        read_labels(file)


def test_a_picture_in_several_rows_is_refused(tmp_path):
    """In each row the targets of the others would be extras."""
    file, place = tmp_path / "labels.json", {"x": 10, "y": 10, "w": 30, "h": 30}
    file.write_text(json.dumps([{"image": "a", "targets": [place]}, {"image": "a", "targets": [place | {"x": 60}]}]))
    with pytest.raises(InputError, match="a is listed 2 times; list each picture once"):
        read_labels(file)


def test_labels_that_no_answer_can_match_are_told():
    label = LabelledBox(10, 10, 30, 30, attributes={"shape": "Star", "orientation": "north", "letter": "A"})
    (warning,) = score_one([label], target(10, 10, 30, 30, shape="star")).warnings
    assert "orientation 'north', shape 'Star'" in warning and "'A'" not in warning


def test_labels_that_are_numbers_are_words(tmp_path):
    """As tools write them that take the letter 7 for a number."""
    file = tmp_path / "labels.json"
    places = [{"x": x, "y": 10, "w": 20, "h": 20, "occluded": False} for x in (0, 30, 60)]
    letters = [7, 7.0, ["A"]]
    targets = [{**place, "letter": letter} for place, letter in zip(places, letters, strict=True)]
    file.write_text(json.dumps([{"image": "a", "targets": targets}]))
    found = [target(place["x"], 10, 20, 20, letter=letter) for place, letter in zip(places, "74A", strict=True)]
    score = score_flight(read_labels(file), [message("a", *found)])
    assert (score.attributes["letter"].known, score.attributes["letter"].right) == (3, 1)
    (warning,) = score.warnings
    assert """letter "['A']"; they count as wrong""" in warning


def test_all_four_right():
    truth = {"shape": "star", "letter": "A", "shape_color": "red", "letter_color": "blue"}
    boxes = [LabelledBox(0, 0, 20, 20, attributes=truth), LabelledBox(50, 50, 20, 20, attributes=truth)]
    score = score_one(boxes, target(0, 0, 20, 20, **truth), target(50, 50, 20, 20, **{**truth, "letter": "B"}))
    assert (score.all_known, score.all_right) == (2, 1)


@pytest.mark.parametrize(
    ("letter", "said", "raw", "right"),
    [("A", "N", 1, 1), ("A", "S", 0, 0), ("H", "S", 0, 1), ("H", "E", 0, 0), ("O", "E", 0, 1), ("8", "S", 0, 1)],
)
def test_orientation_forgives_what_symmetry_hides(letter, said, raw, right):
    label = LabelledBox(0, 0, 20, 20, attributes={"letter": letter, "orientation": "N"})
    counts = score_one([label], target(0, 0, 20, 20, orientation=said)).attributes["orientation"]
    assert (counts.right_raw, counts.right) == (raw, right)


def test_frames_without_a_message_are_missed_and_told():
    score = score_flight([LabelledFrame("gone", [LabelledBox(0, 0, 20, 20)])], [])
    assert (score.found, score.labels) == (0, 1)
    assert "WARNING: 1 labelled frames" in format_score(score)


def test_doubtful_scores_are_told():
    frame = LabelledFrame("a", [LabelledBox(0, 0, 20, 20, attributes={"kind": "pad"})])
    text = format_score(score_flight([frame], [message("a"), message("a", target(0, 0, 20, 20))]))
    assert "share a frame name" in text and "['kind'] are not in the label space 'suas'" in text


def test_extras_are_told_per_completely_labelled_frame():
    frames = [LabelledFrame("a", []), LabelledFrame("b", [], complete=False)]
    score = score_flight(frames, [message("a", target(0, 0, 9, 9)), message("b", target(0, 0, 9, 9))])
    assert score.extras_per_frame == 1.0


def test_recall_by_size():
    score = score_one([LabelledBox(0, 0, 20, 10), LabelledBox(40, 40, 50, 50)], target(40, 40, 50, 50))
    assert score.by_size[17] == [0, 1] and score.by_size[40] == [1, 1]


def test_files_are_read_as_written(tmp_path):
    labels = tmp_path / "labels.json"
    row = {"image": "a", "targets": [{"x": 1, "y": 2, "w": 30, "h": 40, "shape": "star", "letter": None, "note": "n"}]}
    labels.write_text(json.dumps([row]))
    (frame,) = read_labels(labels)
    assert frame.targets[0].box == Box(1, 2, 30, 40)
    assert frame.targets[0].attributes == {"shape": "star", "letter": None}
    lines = tmp_path / "out.jsonl"
    encoded = msgspec.json.encode(message("a", target(1, 2, 3, 4)))
    lines.write_bytes(encoded + b"\n" + encoded + b"\n" + encoded[:40])  # a crash cut the last line
    assert len(read_detections(lines)) == 2
    lines.write_bytes(b"{}\n" + encoded + b"\n")
    with pytest.raises(InputError, match="line 1"):
        read_detections(lines)


def test_wrong_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.json"):
        read_labels(tmp_path / "none.json")
    bad = tmp_path / "bad.json"
    for text in (
        "not json",
        "{}",
        '[{"targets": []}]',
        '[{"image": "a", "targets": [{"x": 1}]}]',
        '[{"image": "a", "targets": [{"x": 1, "y": 1, "w": -5, "h": 5}]}]',
    ):
        bad.write_text(text)
        with pytest.raises(InputError, match="not a label file"):
            read_labels(bad)
    with pytest.raises(InputError, match=r"none\.jsonl"):
        read_detections(tmp_path / "none.jsonl")


def test_a_label_may_count_from_another_size_on():
    found = target(10, 10, 12, 12)
    assert score_one([LabelledBox(10, 10, 12, 12)], found).labels == 0
    frame = LabelledFrame("a", [LabelledBox(10, 10, 12, 12, least_px=12)])
    matches = match_targets(frame.targets, [found])
    assert matches == {0: 0} and unlabelled(frame, [found], matches) == []
    assert unlabelled(frame, [found, target(60, 60, 9, 9)], matches) == [1]
