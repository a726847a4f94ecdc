"""Flags, the TOML file, and who wins."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aerial_runtime.config import Config, parse_config
from aerial_runtime.errors import InputError, UsageError


def toml(tmp_path, text):
    path = tmp_path / "flight.toml"
    path.write_text(text)
    return str(path)


def test_defaults_are_the_shipped_models_and_the_local_socket():
    config = parse_config(["--camera", "demo"])
    assert config == Config(camera="demo")
    assert config.models.parts[-2:] == ("models", "shipped.aerial") and config.models.is_file()
    assert config.segmenter is None and config.classifier is None
    assert (config.bind, config.device, config.conf) == ("tcp://127.0.0.1:5556", "auto", None)


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
        ("conf = 2", UsageError, r"--conf cannot be 2"),
        ('conf = "high"', UsageError, r"--conf cannot be 'high'"),
        ("threads = 1.5", UsageError, r"--threads cannot be 1\.5"),
        ("= 1", InputError, "not valid TOML"),
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
        (["--conf", "much"], r"--conf: invalid float value: 'much'"),
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
