import pytest

from aerial_export.timings import read_timings, timings_to_bytes


def test_what_was_written_is_read(tmp_path):
    path = tmp_path / "orin.timings"
    path.write_bytes(timings_to_bytes(b"measured"))
    said = []
    assert read_timings(path, said.append) == b"measured" and said == []


@pytest.mark.parametrize("damage", [b"", b"short", timings_to_bytes(b"measured")[:-1], timings_to_bytes(b"x")[::-1]])
def test_what_is_damaged_is_left_aside(tmp_path, damage):
    path = tmp_path / "orin.timings"
    path.write_bytes(damage)
    said = []
    assert read_timings(path, said.append) == b"" and said == ["orin.timings is damaged; measuring anew"]


def test_what_is_missing_or_unreadable(tmp_path):
    said = []
    assert read_timings(tmp_path / "none", said.append) == b"" and said == []
    assert read_timings(tmp_path, said.append) == b"" and "Is a directory" in said[0]
