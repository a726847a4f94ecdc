import pytest

from aerial_export.benchmark import benchmark
from aerial_runtime.errors import ModelError, ResourceError


def cells(table):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def test_every_file_and_size_has_its_row(exported):
    paths = [exported / name for name in ("s.onnx", "s.fp16.onnx", "c.onnx")]
    said = []
    found = cells(benchmark(paths, None, [(64, 48), (31, 17)], [1, 3], 4, said.append))
    assert [row[:4] for row in found] == [
        [name, precision, "CPUExecutionProvider", what]
        for name, precision, kinds in (
            ("s.onnx", "fp32", ("64x48", "31x17")),
            ("s.fp16.onnx", "fp16", ("64x48", "31x17")),
            ("c.onnx", "fp32", ("1 x 24 px", "3 x 24 px")),
        )
        for what in kinds
    ]
    assert said and "4 rounds" in said[0]
    for row in found:
        median, p95 = float(row[4]), float(row[5])
        assert 0 < median <= p95
        if row[0].startswith("s"):
            assert row[6] == ""
        else:  # both are rounded to hundredths or better
            assert float(row[6]) == pytest.approx(median / int(row[3].split()[0]), abs=0.011)


def test_a_device_or_file_that_is_not_there_is_an_error(exported, tmp_path):
    with pytest.raises(ResourceError, match="cuda:0"):
        benchmark([exported / "c.onnx"], "cuda:0", [], [1], 1, print)
    with pytest.raises(ModelError, match=r"none\.onnx"):
        benchmark([tmp_path / "none.onnx"], None, [], [1], 1, print)
