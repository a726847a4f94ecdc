"""Does the code that no GPU has run here call the TensorRT and the PyCUDA that exist? Checked against the real APIs."""

import ast
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from nvidia_api import PYCUDA, TENSORRT, NotHereError, real_pycuda, real_tensorrt, recorded
from nvidia_calls import examine
from nvidia_standin import World

from aerial_export import to_engine
from aerial_runtime.backends import nvidia, trt

SOURCES = {Path(module.__file__).name: Path(module.__file__).read_text() for module in (to_engine, nvidia, trt)}


@pytest.fixture(scope="module")
def real(request, tmp_path_factory):
    """The real APIs by package and version; where one cannot be had, the reason. Fetched once, all at the same time."""
    cache = getattr(request.config, "cache", None)
    folder = cache.mkdir("nvidia") if cache else tmp_path_factory.mktemp("nvidia")

    def fetch(key):
        package, version = key.split()
        try:
            return real_tensorrt(version, folder) if package == "tensorrt" else real_pycuda(folder)
        except NotHereError as reason:
            return reason

    keys = [*(f"tensorrt {version}" for version in TENSORRT), f"pycuda {PYCUDA}"]
    with ThreadPoolExecutor(len(keys)) as pool:
        return dict(zip(keys, pool.map(fetch, keys), strict=True))


@pytest.mark.parametrize("key", [*(f"tensorrt {version}" for version in TENSORRT), f"pycuda {PYCUDA}"])
def test_the_recorded_api_is_the_real_one(real, key):
    if isinstance(real[key], NotHereError):
        pytest.skip(str(real[key]))
    assert recorded()[key] == real[key], "run tests/nvidia/nvidia_api.py FOLDER, and look at what changed"


def apis_of(version="10.3.0"):
    return {"trt": recorded()[f"tensorrt {version}"], "cuda": recorded()[f"pycuda {PYCUDA}"]}


@pytest.mark.parametrize("file", SOURCES)
@pytest.mark.parametrize("version", TENSORRT)
def test_every_name_and_call_exists(version, file):
    report = examine(SOURCES[file], apis_of(version))
    assert report.findings == []
    assert len(report.uses) >= 20


@pytest.mark.parametrize("file", SOURCES)
def test_whatever_is_renamed_is_found(file):
    source = SOURCES[file]
    for use in examine(source, apis_of()).uses:
        lines = source.splitlines()
        line = lines[use.line - 1]
        lines[use.line - 1] = f"{line[: use.column]}_renamed{line[use.column :]}"
        assert examine("\n".join(lines), apis_of()).findings, f"{use.what} in line {use.line}"


@pytest.mark.parametrize("file", SOURCES)
def test_every_argument_that_does_not_belong_is_found(file):
    """Each call of the API is given one more argument, then one of another name."""
    source = SOURCES[file]
    ends = {(use.line, use.column): use.what for use in examine(source, apis_of()).uses}
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    checked = 0
    for number, call in enumerate(calls):
        what = ends.get((call.func.end_lineno, call.func.end_col_offset))
        if what is None or arguments_of(what) is None:
            continue
        for change in ("one more", "another name"):
            tree = ast.parse(source)
            twin = [node for node in ast.walk(tree) if isinstance(node, ast.Call)][number]
            if change == "one more":
                twin.args += [ast.Constant(0)] * 9
            else:
                twin.keywords.append(ast.keyword("no_such_argument", ast.Constant(0)))
            assert examine(ast.unparse(tree), apis_of()).findings, f"{change}: {what} in line {call.lineno}"
        checked += 1
    assert checked >= 4


def arguments_of(what):
    """The arguments of a name such as trt.Builder.create_network; None where its source does not tell."""
    module, _, name = what.partition(".")
    api = apis_of()[module]
    owner, _, member = (f"{name}.__init__" if name in api else name).rpartition(".")
    overloads = api.get(owner, {}).get(member, [])
    return overloads[0][0] if overloads else None


@pytest.mark.parametrize(
    "change",
    [
        ("def step_complete(self, phase_name: str, step: int)", "def step_complete(self, phase_name: str)"),
        ("def phase_finish(", "def phase_end("),
        ("builder: trt.Builder", "builder: trt.Bilder"),
        ("builder: trt.Builder", "builder: Any"),  # then nobody could tell what its methods are
    ],
)
def test_what_tensorrt_calls_and_what_types_rest_on_is_checked_too(change):
    source = SOURCES["to_engine.py"]
    assert change[0] in source
    assert examine(source.replace(*change), apis_of()).findings


def test_a_name_that_one_version_lacks_is_found():
    source = "def f(trt, builder: trt.Builder):\n    return builder.platform_has_fast_fp16\n"
    assert examine(source, apis_of("10.13.3.9")).findings == []
    assert examine(source, apis_of("11.4.0.106")).findings == ["line 2: there is no trt.Builder.platform_has_fast_fp16"]


@pytest.mark.parametrize("version", TENSORRT)
def test_the_stand_in_refuses_what_the_real_one_has_not(version):
    world = World(version)
    with pytest.raises(AttributeError):
        world.trt.Builder.build_cuda_engine  # noqa: B018
    world.cuda.Device(0).retain_primary_context().push()
    builder = world.trt.Builder(world.trt.ILogger())
    with pytest.raises(TypeError, match="incompatible function arguments"):
        builder.create_network(1, 2)
    with pytest.raises(TypeError, match="incompatible function arguments"):
        builder.create_builder_config().set_memory_pool_limit(pool=0, size=1)
