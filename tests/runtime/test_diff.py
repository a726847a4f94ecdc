"""Two flights, target by target: what is gained, lost, re-labelled, and what counts as a difference."""

from __future__ import annotations

import msgspec
import pytest

from aerial_runtime.contract import Attribute, Box, Detections, FrameInfo, Target, TimingMs
from aerial_runtime.diff import GAINED, LOST, MOVED, RELABELLED, compare, main

STAR = Target(Box(100, 80, 31, 29), 610, 0.97, {"shape": Attribute("star", 0.99), "letter": Attribute("A", 0.95)})


def message(name, *targets, sequence=0):
    frame = FrameInfo(name, sequence, 1920, 1080, 1, 1)
    return Detections("cam0", sequence, 2, frame, TimingMs(1, 1, 1, 2), 0, {}, list(targets))


def moved(target, dx=0, **attributes):
    box = msgspec.structs.replace(target.box, x=target.box.x + dx)
    changed = {name: Attribute(label, 0.5) for name, label in attributes.items()}
    return msgspec.structs.replace(target, box=box, attributes=target.attributes | changed)


def kinds(before, after):
    return [(one.kind, one.frame) for one in compare(before, after).differences]


def test_each_kind_of_difference():
    assert kinds([message("a", STAR)], [message("a", STAR)]) == []
    assert kinds([message("a", STAR)], [message("a")]) == [(LOST, "a")]
    assert kinds([message("a")], [message("a", STAR)]) == [(GAINED, "a")]
    assert kinds([message("a", STAR)], [message("a", moved(STAR, 3))]) == [(MOVED, "a")]
    assert kinds([message("a", STAR)], [message("a", moved(STAR, 3, letter="B"))]) == [(RELABELLED, "a")]
    assert kinds([message("a", STAR)], [message("a", moved(STAR, letter=None))]) == [(RELABELLED, "a")]
    assert kinds([message("a", STAR)], [message("a", moved(STAR, 200))]) == [(LOST, "a"), (GAINED, "a")]


def test_targets_side_by_side_keep_apart_whatever_their_order():
    left, right = moved(STAR, letter="L"), moved(STAR, 20, letter="R")
    assert kinds([message("a", left, right)], [message("a", right, left)]) == []
    assert kinds([message("a", left, right)], [message("a", moved(right, 1), moved(left, 1))]) == [(MOVED, "a")] * 2
    assert kinds([message("a", left, right)], [message("a", right)]) == [(LOST, "a")]


def test_frames_go_by_name_and_repeated_names_by_their_order():
    before = [message("a", STAR), message("b"), message("a")]
    found = compare(before, [message("b"), message("a", STAR), message("a", STAR), message("c")])
    assert (found.frames, found.same, found.only_a, found.only_b) == (3, 1, [], ["c"])
    assert [(one.kind, one.frame) for one in found.differences] == [(GAINED, "a")]


def write(path, *messages):
    path.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in messages))
    return str(path)


@pytest.fixture
def files(tmp_path):
    def make(before, after):
        return [write(tmp_path / "a.jsonl", *before), write(tmp_path / "b.jsonl", *after)]

    return make


def test_the_command_prints_and_judges(files, capsys):
    assert main(files([message("a", STAR)], [message("a", STAR)])) == 0
    assert capsys.readouterr().out == (
        "frames    1 in both, 0 only in A, 0 only in B\n"
        "targets   1 with the same labels, 0 gained, 0 lost, 0 re-labelled\n"
    )
    other = moved(STAR, letter=None)
    paths = files([message("a", STAR), message("b", STAR)], [message("a", other), message("b")])
    assert main(paths) == 6
    answer = capsys.readouterr()
    assert answer.out == (
        "re-labelled  a  31x29 px at 100,80  0.97 star/A  ->  0.97 star/?\n"
        "lost         b  31x29 px at 100,80  0.97 star/A\n"
        "frames    2 in both, 0 only in A, 0 only in B\n"
        "targets   0 with the same labels, 0 gained, 1 lost, 1 re-labelled (letter 1)\n"
    )
    assert "differ" in answer.err
    assert main([*paths, "--quiet"]) == 6
    assert capsys.readouterr().out.startswith("frames")


def test_numbers_count_where_they_are_asked_for(files, capsys):
    paths = files([message("a", STAR)], [message("a", moved(STAR, 1))])
    assert main(paths) == 0
    assert "numbers   1 differ" in capsys.readouterr().out
    assert main([*paths, "--exact"]) == 6
    assert "otherwise    a" in capsys.readouterr().out


def test_frames_that_one_lacks_count_unless_told_otherwise(files, capsys):
    paths = files([message("a", STAR), message("b")], [message("a", STAR)])
    assert main(paths) == 6
    assert main([*paths, "--common"]) == 0
    assert "1 only in A" in capsys.readouterr().out


def test_what_cannot_be_compared_is_said(files, tmp_path, capsys):
    assert main(files([message("a")], [message("b")])) == 3
    assert "no frame in common" in capsys.readouterr().err
    assert main([str(tmp_path / "none"), str(tmp_path / "none")]) == 3
    assert "cannot read the flight" in capsys.readouterr().err
    (tmp_path / "text").write_text("no flight\n")
    assert main([str(tmp_path / "text")] * 2) == 3
    assert "is not a detections message" in capsys.readouterr().err
    assert main(["a", "b", "--exakt"]) == 2
    assert "did you mean --exact" in capsys.readouterr().err
