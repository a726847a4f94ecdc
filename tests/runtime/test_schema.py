"""The committed JSON Schemas are those of the types. After a change: python tests/runtime/test_schema.py"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aerial_runtime.contract import detections_json_schema, health_json_schema

DOCS = Path(__file__).parents[2] / "docs"
SCHEMAS = {"detections": detections_json_schema, "health": health_json_schema}


@pytest.mark.parametrize("topic", SCHEMAS)
def test_the_committed_schema_is_that_of_the_types(topic):
    committed = (DOCS / f"{topic}.schema.json").read_text()
    assert json.loads(committed) == SCHEMAS[topic](), f"run: python {__file__}"


if __name__ == "__main__":
    for topic, schema in SCHEMAS.items():
        (DOCS / f"{topic}.schema.json").write_text(json.dumps(schema(), indent=2) + "\n")
