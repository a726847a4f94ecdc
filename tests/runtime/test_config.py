"""Flags, the TOML file, and who wins."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aerial_runtime.config import ALL_HEADS, SETTINGS, Config, parse_config, toml_of
from aerial_runtime.errors import InputError, UsageError

DOCS = Path(__file__).parents[2] / "docs" / "configuration.md"
MARK = "<!-- The rest is written by: python tests/runtime/test_config.py -->\n"
EVERY_FLAG = [
    *(
        "--camera",
        'flights/"north" ü\\*.jpg',
        "--source",
        "cam0",
        "--width",
        "1920",
        "--height",
        "1080",
        "--fps",
        "29.97",
    ),
    *("--pixel-format", "MJPG", "--exposure-ms", "2.5", "--pace", "--camera-timeout-s", "3", "--frozen-s", "0"),
    *("--black-s", "0.1", "--wait-for-camera", "--models", "m", "--segmenter", "s.onnx", "--classifier", "c.onnx"),
    *("--device", "cuda:0", "--threads", "2", "--conf", "0.1", "--mask-threshold", "1", "--abstain", "0.3"),
    *("--abstain", "letter=0.7", "--max-candidates", "7", "--min-size", "3", "--max-size", "99", "--tile", "640x480"),
    *(
        "--tile-overlap",
        "32",
        "--track",
        "--targets",
        "t.json",
        "--bind",
        "ipc:///a",
        "--bind",
        "tcp://*:1",
        "--insecure",
        "--server-key",
        "k",
    ),
    *("--allowed-clients", "d", "--output", "o", "--overwrite", "--crops", "--crop-bytes-per-s", "9"),
    *("--record", "r", "--record-frames", "jpeg:80", "--record-fps", "5", "--record-limit", "100"),
    *(
        "--metrics-port",
        "9100",
        "--log",
        "json",
        "--quiet",
        "--inject",
        "camera-loss@1s",
        "--inject",
        "disk-full@2s+3s",
    ),
]


def toml(tmp_path, text):
    path = tmp_path / "flight.toml"
    path.write_text(text)
    return str(path)


def test_defaults_are_the_shipped_models_and_the_local_socket():
    config = parse_config(["--camera", "demo"])
    assert config == Config(camera="demo")
    assert config.models.parts[-2:] == ("models", "shipped.aerial") and config.models.is_file()
    assert config.segmenter is None and config.classifier is None
    assert (config.bind, config.device, config.conf) == (("tcp://127.0.0.1:5556",), "auto", None)


def test_models_are_named_together_or_one_by_one():
    config = parse_config(["--camera", "demo", "--models", "m", "--segmenter", "s.onnx"])
    assert (config.models, config.segmenter, config.classifier) == (Path("m"), Path("s.onnx"), None)


def test_the_file_sets_and_flags_override(tmp_path):
    path = toml(tmp_path, 'camera = "a"\nconf = 1\nmax-candidates = 7\nquiet = true\noutput = "o.jsonl"\n')
    assert parse_config(["--config", path]) == Config(
        camera="a", conf=1.0, max_candidates=7, quiet=True, output=Path("o.jsonl")
    )
    config = parse_config(["--config", path, "--camera", "b", "--conf", "0.25"])
    assert (config.camera, config.conf, config.max_candidates) == ("b", 0.25, 7)


@pytest.mark.parametrize(
    ("text", "error", "reason"),
    [
        ("confidence = 0.5", UsageError, "unknown key 'confidence'; the nearest known one is 'conf'"),
        ("max_candidate = 5", UsageError, "the nearest known one is 'max_candidates'"),
        ("conf = 2", UsageError, r"flight\.toml, conf cannot be 2; give a number from 0 to 1"),
        ('conf = "high"', UsageError, r"flight\.toml, conf cannot be 'high'"),
        ('conf = "0.5"', UsageError, r"flight\.toml, conf cannot be '0\.5'"),
        ("conf = nan", UsageError, r"conf cannot be nan"),
        ("conf = true", UsageError, r"conf cannot be True"),
        ("threads = 1.5", UsageError, r"threads cannot be 1\.5; give a whole number from 1 to 1024"),
        ("threads = true", UsageError, r"threads cannot be True"),
        ('quiet = "yes"', UsageError, r"quiet cannot be 'yes'; give true or false"),
        ("output = 7", UsageError, r"output cannot be 7; give the path of a file"),
        ('camera = "a\\u0000"', UsageError, r"camera cannot be 'a\\x00'"),
        ("bind = [1]", UsageError, r"bind cannot be \[1\]; give a ZeroMQ endpoint"),
        ("bind = []", UsageError, r"bind holds no endpoint; name one, or leave it out, or give 'none'"),
        ('tile = "640"', UsageError, r"tile cannot be '640'; give width and height in pixels"),
        ('abstain = ["letter"]', UsageError, r"abstain cannot be \['letter'\]; give a number from 0 to 1, or HEAD"),
        ("min-size = 1\nmin_size = 2", UsageError, "has the key 'min_size' twice"),
        ("dry_run = true", UsageError, "give --dry-run as a flag"),
        ("[camera]\nname = 1", UsageError, r"camera cannot be \{'name': 1\}"),
        ("= 1", InputError, "not valid TOML"),
        (f"a = {'[' * 10_000}", InputError, "not valid TOML"),
        (f"conf = {'9' * 5000}", InputError, "not valid TOML"),
        ("#" * 1_000_001, InputError, "more than 1000000 bytes"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, text, error, reason):
    with pytest.raises(error, match=reason):
        parse_config(["--camera", "demo", "--config", toml(tmp_path, text)])


def test_a_missing_file_is_named():
    with pytest.raises(InputError, match=r"cannot read the config file nowhere\.toml"):
        parse_config(["--camera", "demo", "--config", "nowhere.toml"])


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--conf", "1.01"], r"--conf cannot be 1\.01"),
        (["--conf", "-0.1"], r"--conf cannot be -0\.1"),
        (["--conf", "nan"], r"--conf cannot be nan"),
        (["--conf", "much"], r"--conf cannot be 'much'; give a number from 0 to 1; see --help"),
        (["--exposure-ms", "inf"], r"--exposure-ms cannot be inf; give a number from 0\.001 to 10000 ms"),
        (["--pixel-format", "MJPEG"], r"--pixel-format cannot be 'MJPEG'; give four letters"),
        (["--tile", "0x9"], r"--tile cannot be '0x9'"),
        (["--abstain", "letter=2"], r"--abstain cannot be 'letter=2'"),
        (["--log", "xml"], r"--log cannot be 'xml'; give console or json"),
        (["--bind", "none", "--bind", "ipc://a"], r"--bind none stands alone"),
        (["--min-size", "9", "--max-size", "8"], r"--max-size 8 is less than --min-size 9"),
        (["--tile", "64x64", "--tile-overlap", "64"], r"--tile-overlap 64 is not smaller than the --tile 64x64"),
        (["--device", "gpu"], r"--device cannot be 'gpu'"),
        (["--camera", ""], r"--camera cannot be ''"),
        (["--threads", "0"], r"--threads cannot be 0"),
        (["--max-candidates", "0"], r"--max-candidates cannot be 0"),
        (["--outptu", "x"], r"unrecognized arguments: --outptu"),
    ],
)
def test_a_wrong_flag_is_one_sentence(flags, reason):
    with pytest.raises(UsageError, match=reason) as caught:
        parse_config(["--camera", "demo", *flags])
    assert "\n" not in str(caught.value)


def test_a_camera_must_be_named():
    with pytest.raises(UsageError, match="no --camera is given"):
        parse_config([])


@given(st.floats(0, 1))
def test_every_confidence_within_0_and_1_is_taken(conf):
    assert parse_config(["--camera", "demo", f"--conf={conf!r}"]).conf == conf


def test_help_names_every_flag(capsys):
    with pytest.raises(SystemExit) as caught:
        parse_config(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for name in Config.__dataclass_fields__:
        assert f"--{name.replace('_', '-')}" in text


def test_lists_are_repeated_flags_and_arrays_in_the_file(tmp_path):
    path = toml(tmp_path, 'camera = "a"\nbind = ["ipc:///a", "ipc:///b"]\ninject = "camera-loss@1s"\nabstain = 0.5\n')
    config = parse_config(["--config", path])
    assert (config.bind, config.inject) == (("ipc:///a", "ipc:///b"), ("camera-loss@1s",))
    assert config.abstain == {ALL_HEADS: 0.5}
    config = parse_config(["--config", path, "--bind", "ipc:///c", "--abstain", "0.2", "--abstain", "a=b=0.4"])
    assert config.bind == ("ipc:///c",)  # not added to the file's
    assert config.abstain == {ALL_HEADS: 0.2, "a=b": 0.4}


def test_a_switch_of_the_file_can_be_undone(tmp_path):
    path = toml(tmp_path, 'camera = "a"\nquiet = true\n')
    assert parse_config(["--config", path]).quiet
    assert not parse_config(["--config", path, "--no-quiet"]).quiet


def test_what_is_printed_is_read_back_to_the_same(tmp_path):
    for flags in (["--camera", "demo"], EVERY_FLAG):
        config = parse_config(flags)
        assert parse_config(["--config", toml(tmp_path, toml_of(config))]) == config
    defaults = parse_config(["--camera", "demo"])
    flag_alone = {row.name for row in SETTINGS if not row.in_file}
    same = [name for name in Config.__dataclass_fields__ if getattr(config, name) == getattr(defaults, name)]
    assert flag_alone == {"dry_run", "print_config"}
    assert set(same) == flag_alone | {
        "track"
    }  # without it there are no targets to write. Or the flags above do not tell of each key


def test_a_name_that_toml_cannot_hold_is_refused():
    with pytest.raises(UsageError, match=r"'a\\udcff' is no UTF-8"):
        toml_of(parse_config(["--camera", "a\udcff"]))


@pytest.mark.parametrize("kind", ["pipe", "folder", "endless"])
def test_a_config_that_is_no_file_is_refused_without_waiting(tmp_path, kind):
    path = tmp_path / kind
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path = Path("/dev/zero")
    with pytest.raises(InputError, match=f"{path} is not a regular file"):
        parse_config(["--config", str(path)])


@pytest.mark.parametrize("flag", ["--output", "--targets"])
def test_an_output_over_the_config_file_is_refused(tmp_path, flag):
    path = toml(tmp_path, 'camera = "demo"\n')
    with pytest.raises(UsageError, match=f"^{flag} .* is also the file of --config; give another {flag}"):
        parse_config(["--config", path, flag, path, "--overwrite"])


def test_targets_have_a_file_of_their_own_and_need_tracks():
    with pytest.raises(UsageError, match=r"two of --output, --record and --targets are one file"):
        parse_config(["--camera", "demo", "--output", "t.json", "--targets", "t.json"])
    with pytest.raises(UsageError, match="--targets lists what --no-track does not follow"):
        parse_config(["--camera", "demo", "--no-track", "--targets", "t.json"])


def test_one_file_under_two_names_is_one_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    for other in (tmp_path / "t.json", tmp_path / "link" / "t.json"):
        with pytest.raises(UsageError, match=r"two of --output, --record and --targets are one file"):
            parse_config(["--camera", "demo", "--output", "t.json", "--targets", str(other)])


def docs_table():
    """Return the tables of the docs page, one for each group of settings."""
    lines: list[str] = []
    group = ""
    for row in SETTINGS:
        if row.group != group:
            group = row.group
            lines += ["", f"## {group}", "| key | flag | limits, unit | default | |", "|---|---|---|---|---|"]
        flag = f"{row.flag} {row.kind.metavar}".rstrip()
        key = f"`{row.name}`" if row.in_file else ""
        times = "; may be repeated" if row.kind.many and "repeated" not in row.help else ""
        lines.append(f"| {key} | `{flag}` | {row.kind.limits} | {row.default} | {row.help}{times} |")
    return "\n".join([*lines, ""])


def test_the_docs_table_is_that_of_the_code():
    assert DOCS.read_text().partition(MARK)[2] == docs_table(), f"run: python {__file__}"


if __name__ == "__main__":
    DOCS.write_text(DOCS.read_text().partition(MARK)[0] + MARK + docs_table())
