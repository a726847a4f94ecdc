import argparse
from dataclasses import replace

import pytest

from aerial_runtime.errors import InputError, ResourceError, UsageError
from aerial_train.fit_segmenter import SegmenterOptions, add_arguments, network_config
from aerial_train.options import options_from, save_options, whole_numbers


def parse(*words):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return options_from(parser.parse_args(list(words)), SegmenterOptions)


def test_defaults_and_what_is_given(tmp_path):
    options = parse("--name", "a", "--out", str(tmp_path), "--filters", "8-16", "--epochs", "3")
    assert options == SegmenterOptions(name="a", out=str(tmp_path), filters=(8, 16), epochs=3)
    assert options.run_dir == tmp_path / "a"
    assert options.backgrounds_dir is None


def test_unknown_option_and_missing_name_are_usage_errors(capsys):
    for words in (("--name", "a", "--learning-rate", "1"), ("--epochs", "2"), ("--name", "a", "--filters", "x")):
        with pytest.raises(SystemExit) as stop:
            parse(*words)
        assert stop.value.code == 2
    assert "--learning-rate" in capsys.readouterr().err


def test_help_names_every_option_with_its_default(capsys):
    with pytest.raises(SystemExit):
        parse("--help")
    text = capsys.readouterr().out
    assert "--weight-decay" in text and "(0.01)" in text and "--resume" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--epochs", "0"), "--epochs must be more than 0"),
        (("--batch", "64", "--images-per-epoch", "63"), "less than one --batch"),
        (("--workers", "-1"), "cannot be negative"),
        (("--name", "a/b"), "plain name"),
        (("--name", ""), "plain name"),
        (("--seed", "-1"), "cannot be negative"),
        (("--margin", "9"), "--margin must be within"),
    ],
)
def test_impossible_numbers_are_refused(tmp_path, words, message):
    with pytest.raises(UsageError, match=message):
        parse("--name", "a", "--out", str(tmp_path), *words)


def test_an_existing_run_is_neither_overwritten_nor_invented(tmp_path):
    with pytest.raises(InputError, match=r"no run .* to resume"):
        parse("--name", "a", "--out", str(tmp_path), "--resume")
    save_options(parse("--name", "a", "--out", str(tmp_path)))
    with pytest.raises(UsageError, match="--resume to go on"):
        parse("--name", "a", "--out", str(tmp_path))


def test_a_resumed_run_keeps_its_options(tmp_path):
    started = parse("--name", "a", "--out", str(tmp_path), "--epochs", "3", "--filters", "8-16")
    save_options(started)
    again = parse("--name", "a", "--out", str(tmp_path), "--resume", "--workers", "2")
    assert again == replace(started, workers=2)
    with pytest.raises(UsageError, match="another --epochs"):
        parse("--name", "a", "--out", str(tmp_path), "--resume", "--epochs", "4")
    with pytest.raises(UsageError, match="another --epochs"):  # the default, but not what this run was started with
        parse("--name", "a", "--out", str(tmp_path), "--resume", "--epochs", "20")


def test_options_of_another_kind_of_run_are_refused(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "options.json").write_text('{"crop_size": 32}')
    with pytest.raises(InputError, match="another kind of run"):
        parse("--name", "a", "--out", str(tmp_path), "--resume")


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="choose another --out"):
        save_options(SegmenterOptions(name="a", out=str(tmp_path / "file")))


def test_filters_by_dash_or_comma():
    assert whole_numbers("16-32-64") == whole_numbers("16,32,64") == (16, 32, 64)


def test_network_options_change_the_preset():
    config = network_config(SegmenterOptions(name="a", preset="fast", stem="patch2", convs=2))
    assert (config.filters, config.stem, config.convs, config.output_stride) == ((8, 16, 32, 64), "patch2", 2, 2)
    with pytest.raises(UsageError, match="cannot be built"):
        network_config(SegmenterOptions(name="a", output_stride=3))
