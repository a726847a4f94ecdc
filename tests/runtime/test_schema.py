"""The committed JSON Schema is that of the types. After a change: python tests/runtime/test_schema.py"""

from __future__ import annotations

import json
from pathlib import Path

from aerial_runtime.contract import detections_json_schema

SCHEMA_FILE = Path(__file__).parents[2] / "docs" / "detections.schema.json"


def test_the_committed_schema_is_that_of_the_types():
    assert json.loads(SCHEMA_FILE.read_text()) == detections_json_schema(), f"run: python {__file__}"


if __name__ == "__main__":
    SCHEMA_FILE.write_text(json.dumps(detections_json_schema(), indent=2) + "\n")
