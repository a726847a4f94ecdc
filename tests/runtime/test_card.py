import msgspec
import pytest

from aerial_runtime.card import Artefact, card_from_json, card_to_json
from aerial_runtime.errors import ModelError


def test_a_card_survives_the_way_through_json(kit):
    made = Artefact(precision="fp16", opset=18, ancestors={"onnx": "ab"}, tools={"onnx": "1.18"})
    card = kit.segmenter_card(artefact=made)
    assert card_from_json(card_to_json(card), "here") == card
    assert card.precision == "fp16"


def test_a_card_of_before_artefacts_were_recorded_is_fp32(kit):
    content = msgspec.json.decode(card_to_json(kit.segmenter_card()))
    del content["artefact"]
    assert card_from_json(msgspec.json.encode(content), "here").precision == "fp32"


def test_another_version_is_named_with_what_to_do(kit):
    text = card_to_json(kit.segmenter_card()).replace("aerial.card/1", "aerial.card/2")
    with pytest.raises(
        ModelError, match=r"m\.onnx is of the version 'aerial\.card/2', this program reads 'aerial"
    ) as e:
        card_from_json(text, "m.onnx")
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("text", ["{", "[]", '{"kind": "segmenter"}', '{"schema": 2}'])
def test_what_is_no_card_is_refused(text):
    with pytest.raises(ModelError, match=r"the model card in m\.onnx is not valid"):
        card_from_json(text, "m.onnx")
