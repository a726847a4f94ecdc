"""The committed JSON Schemas are those of the types. After a change: python tests/runtime/test_schema.py"""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest

from aerial_runtime.contract import (
    Detections,
    Health,
    TargetEvents,
    detections_json_schema,
    flight_targets_json_schema,
    health_json_schema,
    targets_json_schema,
)
from aerial_runtime.inject import KINDS
from aerial_runtime.output_file import OUTPUT, RECORDING
from aerial_runtime.record import LIMIT
from aerial_runtime.watch import BLACK, FROZEN, LOST, WRONG_SIZE

DOCS = Path(__file__).parents[2] / "docs"
SCHEMAS = {
    "detections": detections_json_schema,
    "health": health_json_schema,
    "targets": targets_json_schema,
    "flight-targets": flight_targets_json_schema,
}


@pytest.mark.parametrize("topic", SCHEMAS)
def test_the_committed_schema_is_that_of_the_types(topic):
    committed = (DOCS / f"{topic}.schema.json").read_text()
    assert json.loads(committed) == SCHEMAS[topic](), f"run: python {__file__}"


def test_the_examples_of_the_page_are_messages():
    page = (DOCS / "protocol.md").read_text()
    examples = re.findall(r"^```json\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    for example, message in zip(examples, (Detections, Health, TargetEvents), strict=True):
        assert msgspec.json.decode(msgspec.json.encode(msgspec.json.decode(example, type=message))) == json.loads(
            example
        )


def test_the_page_names_every_reason():
    page = (DOCS / "protocol.md").read_text()
    reasons = {LOST, FROZEN, BLACK, WRONG_SIZE, LIMIT, OUTPUT.full, OUTPUT.failed, RECORDING.full, RECORDING.failed} | {
        kind.reason for kind in KINDS.values()
    }
    assert {reason for reason in reasons if reason is not None and f"`{reason}`" not in page} == set()


if __name__ == "__main__":
    for topic, schema in SCHEMAS.items():
        (DOCS / f"{topic}.schema.json").write_text(json.dumps(schema(), indent=2) + "\n")
