"""Engine cards: names, versions, what they refuse. What a backend makes of them is in test_backends_trt.py."""

import hashlib
from pathlib import Path

import msgspec
import pytest

from aerial_runtime.card import Artefact
from aerial_runtime.engine_card import (
    EngineCard,
    Host,
    build_again,
    card_path,
    check_engine,
    check_host,
    check_source,
    engine_card_to_json,
    engine_name,
    read_engine_card,
)
from aerial_runtime.errors import ModelError

HOST = Host("NVIDIA GeForce RTX 4090", "8.9", "10.13.3.9")


@pytest.fixture
def card(kit):
    model = kit.classifier_card(artefact=Artefact(ancestors={"onnx": hashlib.sha256(b"model").hexdigest()}))
    plan = hashlib.sha256(b"plan").hexdigest()
    return EngineCard(card=model, host=HOST, onnx="c.onnx", sha256=plan, key="k", workspace_mib=9, max_crops=7)


@pytest.fixture
def engine(card, tmp_path):
    path = tmp_path / engine_name("c", HOST, "fp16")
    path.write_bytes(b"plan")
    card_path(path).write_text(engine_card_to_json(card))
    return path


def test_names_tell_model_gpu_tensorrt_and_precision(engine):
    assert engine.name == "c.nvidia-geforce-rtx-4090.10.13.3.9.fp16.engine"
    assert card_path(engine).name == f"{engine.name}.json"


@pytest.mark.parametrize("model", ["c", "seg.v2", "seg.1.0"])
@pytest.mark.parametrize("host", [HOST, Host("Orin", "8.7", "10.3.0"), Host("Orin", "8.7", "10.3.0.post1")], ids=str)
def test_a_model_whose_name_holds_dots_is_named_whole_where_the_card_is_missing(model, host):
    engine = Path("models") / engine_name(model, host, "fp16")
    assert build_again(engine) == f"build it here with: aerial-export models/{model}.onnx --engine"
    assert build_again(Path("segmenter.engine")) == "build it here with: aerial-export segmenter.onnx --engine"


def test_what_was_written_is_read(engine, card):
    assert read_engine_card(engine) == card
    assert card.largest_shape(card.card.inputs[0]) == (7, 16, 16, 3)
    check_engine(engine, b"plan", card)
    check_host(engine, card, HOST)


def test_the_onnx_beside_it_must_be_an_ancestor(engine, card):
    onnx = engine.with_name("c.onnx")
    onnx.write_bytes(b"model")
    check_engine(engine, b"plan", card)
    onnx.write_bytes(b"model of next week")
    with pytest.raises(ModelError, match=r"was built from another c\.onnx than that beside it; build it here with"):
        check_engine(engine, b"plan", card)
    orphan = msgspec.structs.replace(card, card=msgspec.structs.replace(card.card, artefact=None))
    with pytest.raises(ModelError, match=r"another c\.onnx"):
        check_source(engine, orphan, onnx)


def test_every_refusal_ends_with_the_command_that_helps(engine, card):
    folder = engine.parent
    command = f"build it here with: aerial-export {folder}/c.onnx --engine"
    assert build_again(engine) == command
    assert build_again(engine, card) == f"{command} --max-crops 7"
    assert build_again(engine, None, (640, 480)) == f"{command} --frame-size 640x480"
    with pytest.raises(ModelError, match=f"{command} --max-crops 7"):
        check_engine(engine, b"plan of another model", card)
    with pytest.raises(ModelError) as caught:
        check_host(engine, card, Host("Orin", "8.7", "10.13.3.9"))
    assert str(caught.value) == (
        f"{engine} was built for GPU NVIDIA GeForce RTX 4090, here is Orin, "
        f"and for compute capability 8.9, here is 8.7; {command} --max-crops 7"
    )


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"aerial.engine/1"', '"aerial.engine/9"', "is of the version 'aerial.engine/9'"),
        ('"aerial.card/1"', '"aerial.card/9"', "the model card in .* is of the version 'aerial.card/9'"),
        ('"max_crops": 7', '"max_crops": 0', "is not valid"),
        ('"max_crops": 7', '"max_crops": null', "is not valid .*the engine of a classifier needs its size"),
        ('"workspace_mib": 9', '"workspace_mib": "much"', "is not valid"),
        ("{", "[", "is not valid"),
    ],
)
def test_cards_that_cannot_be_read(engine, old, new, says):
    path = card_path(engine)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(ModelError, match=says) as caught:
        read_engine_card(engine)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_an_engine_without_its_card():
    with pytest.raises(
        ModelError, match=r"cannot read the engine card x/c\.a\.engine\.json .* copy it too, or build it"
    ):
        read_engine_card(Path("x/c.a.engine"))
