from dataclasses import replace

import pytest

from aerial_runtime.card import load_label_space
from aerial_runtime.config import Parser
from aerial_runtime.errors import InputError, ResourceError, UsageError
from aerial_train import fit_classifier
from aerial_train.fit_segmenter import SegmenterOptions, add_arguments, network_config
from aerial_train.options import whole_numbers
from aerial_train.run_options import option_value, options_from, save_options


def parse(*words):
    parser = Parser()
    add_arguments(parser)
    return options_from(parser.parse_args(list(words)), SegmenterOptions)


def test_defaults_and_what_is_given(tmp_path):
    options = parse("--name", "a", "--out", str(tmp_path), "--filters", "8-16", "--epochs", "3")
    assert options == SegmenterOptions(name="a", out=str(tmp_path), filters=(8, 16), epochs=3)
    assert options.run_dir == tmp_path / "a"
    assert options.backgrounds_dir is None


def test_unknown_option_and_missing_name_are_usage_errors():
    with pytest.raises(UsageError, match=r"did you mean --weight-decay\?"):
        parse("--name", "a", "--weight-decy", "1")
    with pytest.raises(UsageError, match="give --name NAME"):
        parse("--epochs", "2")
    with pytest.raises(UsageError, match="--filters"):
        parse("--name", "a", "--filters", "x")


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
        (("--workers", "-2"), "at least -1"),
        (("--warm-up", "1"), r"--warm-up must be within 0\.\.1"),
        (("--devices", "3"), "--batch 32 cannot be shared by 3 processes; the nearest that can is 33"),
        (("--new-heads",), "goes with --init"),
        (("--recipe", "r265"), "'r256'"),
        (("--name", "a/b"), "plain name"),
        (("--name", ""), "plain name"),
        (("--seed", "-1"), "cannot be negative"),
        (("--seed", str(2**64)), "at most 4294967295"),
        (("--lr", "nan"), "--lr must be a number, is nan"),
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


def test_a_resumed_run_is_checked_with_its_own_batch_not_with_the_default(tmp_path):
    started = parse("--name", "a", "--out", str(tmp_path), "--batch", "48", "--devices", "2")
    save_options(started)
    again = parse("--name", "a", "--out", str(tmp_path), "--resume", "--devices", "3")
    assert again == replace(started, devices=3)
    with pytest.raises(UsageError, match="--batch 48 cannot be shared by 5"):
        parse("--name", "a", "--out", str(tmp_path), "--resume", "--devices", "5")
    with pytest.raises(UsageError, match="give --name NAME"):
        parse("--out", str(tmp_path), "--resume")


def test_options_of_another_kind_of_run_are_refused(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "options.json").write_text('{"crop_size": 32}')
    with pytest.raises(InputError, match="another kind of run"):
        parse("--name", "a", "--out", str(tmp_path), "--resume")


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="choose another --out"):
        save_options(SegmenterOptions(name="a", out=str(tmp_path / "file")))


def test_a_full_disk_leaves_the_options_of_a_run_that_is_resumed(tmp_path, size_limit):
    started = parse("--name", "a", "--out", str(tmp_path), "--epochs", "3")
    save_options(started)
    with size_limit(100), pytest.raises(ResourceError, match="File too large"):
        save_options(started)
    assert parse("--name", "a", "--out", str(tmp_path), "--resume") == started


def test_filters_by_dash_or_comma():
    assert whole_numbers("16-32-64") == whole_numbers("16,32,64") == (16, 32, 64)
    with pytest.raises(ValueError, match="invalid literal"):
        whole_numbers("16-")


def test_network_options_change_the_preset():
    config = network_config(SegmenterOptions(name="a", preset="fast", stem="patch2", convs=2))
    assert (config.filters, config.stem, config.convs, config.output_stride) == ((8, 16, 32, 64), "patch2", 2, 2)
    with pytest.raises(UsageError, match="cannot be built"):
        network_config(SegmenterOptions(name="a", output_stride=3))


def test_a_config_file_stands_between_flags_and_defaults(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text("epochs = 7\nfilters = [8, 16]\nweight-decay = 0.5\nlr = 1\n")
    options = parse("--name", "a", "--out", str(tmp_path), "--config", str(file), "--epochs", "3")
    assert (options.epochs, options.filters, options.weight_decay, options.lr) == (3, (8, 16), 0.5, 1.0)


def test_empty_filters_of_a_config_file_leave_the_network_as_it_is(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text("filters = []\nfreeze = []\n")
    options = parse("--name", "a", "--out", str(tmp_path), "--config", str(file))
    assert (options.filters, options.freeze) == ((), ())
    assert parse("--name", "a", "--out", str(tmp_path), "--filters", "") == options


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("fliters = [8]", UsageError, "unknown key 'fliters'.*'filters'"),
        ("epochs = 1.5", UsageError, "epochs in .* cannot be 1.5"),
        ("schedule = 'cosin'", UsageError, "'cosine'"),
        ("compile = 3", UsageError, "compile in .* cannot be 3"),
        ("dropout = 'much'", UsageError, "dropout in .* cannot be 'much'; it must be like '0.0'"),
        ("deep-supervision = 3", UsageError, "deep-supervision in .* cannot be 3; it must be like 'False'"),
        ("epochs = ", InputError, "not valid TOML"),
    ],
)
def test_config_files_that_cannot_be(tmp_path, text, error, message):
    file = tmp_path / "run.toml"
    file.write_text(text)
    with pytest.raises(error, match=message):
        parse("--name", "a", "--out", str(tmp_path), "--config", str(file))
    with pytest.raises(InputError, match="check --config"):
        parse("--name", "a", "--config", str(tmp_path / "none.toml"))


def test_a_recipe_sets_options_that_flags_can_change(tmp_path):
    r256 = parse("--name", "a", "--out", str(tmp_path), "--recipe", "r256")
    assert (r256.preset, r256.frame_size, r256.loss) == ("textbook", 256, "jaccard")
    assert (network_config(r256).output_stride, network_config(r256).subpixels) == (1, 2)
    assert parse("--name", "a", "--out", str(tmp_path), "--recipe", "r256", "--loss", "dice").loss == "dice"
    r32 = options_of_r32(tmp_path)
    assert (r32.crop_size, r32.margin, r32.filters, r32.stem_stride) == (32, 1.0, (16, 32, 64, 128), 1)
    assert len(load_label_space(r32.label_space).head("letter").classes) == 34


def options_of_r32(folder):
    parser = Parser()
    fit_classifier.add_arguments(parser)
    words = ["--name", "a", "--out", str(folder), "--recipe", "r32"]
    return options_from(parser.parse_args(words), fit_classifier.ClassifierOptions)


def test_values_of_a_search_are_read_as_the_option_is():
    assert option_value(SegmenterOptions, "filters", "8-16", "x") == (8, 16)
    assert option_value(SegmenterOptions, "compile", True, "x") is True
    assert option_value(SegmenterOptions, "step_at", [0.5, 0.75], "x") == (0.5, 0.75)
