"""What NVIDIA's Python APIs offer, taken from the real packages and recorded in api.json beside this file.

TensorRT: the wheels of its bindings import without a GPU once stand-ins for its shared libraries exist; classes, enums
and signatures, which pybind11 writes into the docstrings, are then the real ones. PyCUDA: its C++ wrappers are read.

    python tests/nvidia/nvidia_api.py FOLDER     # packages into FOLDER, and api.json anew
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import threading
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RECORDED = HERE / "api.json"
TENSORRT = {"10.0.1": 10, "10.3.0": 10, "10.13.3.9": 10, "11.4.0.106": 11}  # version -> number of its libraries
PYCUDA = "2024.1.2"
PYCUDA_CLASSES = ("", "Device", "Context", "Stream", "DeviceAllocation", "PagelockedHostAllocation", "device_attribute")
CLASSES = (
    "Builder", "INetworkDefinition", "OnnxParser", "ParserError", "IBuilderConfig", "IOptimizationProfile",
    "ITimingCache", "IHostMemory", "Runtime", "ICudaEngine", "IExecutionContext", "ILogger", "IProgressMonitor",
)  # fmt: skip
ENUMS = ("NetworkDefinitionCreationFlag", "BuilderFlag", "MemoryPoolType", "DataType", "TensorIOMode")
LIBRARIES = ("nvinfer", "nvonnxparser", "nvinfer_plugin")
FUNCTIONS = (
    "createInferBuilder_INTERNAL", "createInferRuntime_INTERNAL", "createInferRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL", "createNvOnnxParserRefitter_INTERNAL", "getBuilderPluginRegistry",
    "getPluginRegistry", "getNvOnnxParserVersion", "initLibNvInferPlugins", "getInferLibVersion",
)  # fmt: skip

# pip asks a source distribution for its name and version before it hands it over. This answers in place of setuptools,
# so that nothing of the package is run.
BACKEND = f"""
import sys
import threading
from pathlib import Path

def prepare_metadata_for_build_wheel(folder, config_settings=None):
    info = Path(folder, "pycuda-{PYCUDA}.dist-info")
    info.mkdir()
    info.joinpath("METADATA").write_text("Metadata-Version: 2.1\\nName: pycuda\\nVersion: {PYCUDA}\\n")
    return info.name

__legacy__ = sys.modules[__name__]  # the name pip uses where a package states no backend
"""

# An API: class -> member -> overloads. An overload: names of the arguments without self, "?" behind those that may be
# left out, and what comes back; null arguments where the source does not name them. A property has one overload, whose
# arguments are "property". An enum's members have none.
Api = dict[str, dict[str, list[Any]]]


class NotHereError(Exception):
    """A package or a compiler is missing: the check cannot be made here."""


@cache
def recorded() -> dict[str, Api]:
    """Return what api.json holds: "tensorrt VERSION" or "pycuda VERSION" -> API."""
    apis: dict[str, Api] = json.loads(RECORDED.read_text(encoding="utf-8"))
    return apis


def real_tensorrt(version: str, folder: Path) -> Api:
    """Return the API of the real bindings, fetched into `folder`. Raises NotHereError."""
    number = TENSORRT[version]
    bindings = folder / f"tensorrt-{version}"
    if not bindings.exists():
        aside = folder / f"{bindings.name}.part"
        _pip("install", "--upgrade", "--target", str(aside), f"tensorrt-cu12-bindings=={version}")
        aside.rename(bindings)
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": str(_stand_in_libraries(folder, number)),
        "PYTHONPATH": str(bindings),
    }
    done = subprocess.run([sys.executable, __file__, "--dump"], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the bindings of TensorRT {version} do not load: {done.stderr}")
    api: Api = json.loads(done.stdout)
    return api


def real_pycuda(folder: Path) -> Api:
    """Return the API of PyCUDA's driver module, from its source fetched into `folder`. Raises NotHereError."""
    archive = folder / f"pycuda-{PYCUDA}.tar.gz"
    if not archive.exists():
        backend = folder / "backend" / "setuptools"
        backend.mkdir(parents=True, exist_ok=True)
        (backend / "__init__.py").touch()
        (backend / "build_meta.py").write_text(BACKEND)
        options = ("--no-binary", "pycuda", "--no-build-isolation", "--dest", str(folder))
        _pip("download", *options, f"pycuda=={PYCUDA}", python_path=backend.parent)
    with tarfile.open(archive) as sources:
        member = sources.extractfile(f"pycuda-{PYCUDA}/src/wrapper/wrap_cudadrv.cpp")
        if member is None:
            raise RuntimeError("PyCUDA's source has another layout")
        return pycuda_names(member.read().decode())


def _pip(command: str, *arguments: str, python_path: Path | None = None) -> None:
    environment = {**os.environ, "PYTHONPATH": str(python_path or "")}
    options = ["--quiet", "--disable-pip-version-check", "--retries", "1", "--timeout", "15", command, "--no-deps"]
    words = [sys.executable, "-m", "pip", *options, *arguments]
    try:
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired as error:
        raise NotHereError("no package index answers") from error
    if done.returncode:
        raise NotHereError(f"{arguments[-1]} cannot be fetched: {(done.stderr.strip().splitlines() or ['?'])[-1]}")


def _stand_in_libraries(folder: Path, number: int) -> Path:
    """Return a folder with libraries that offer what the bindings link to, and do nothing."""
    built = folder / f"libraries-{number}"
    built.mkdir(exist_ok=True)
    source = built / "nothing.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in FUNCTIONS))
    for library in LIBRARIES:
        path = built / f"lib{library}.so.{number}"
        # Aside and renamed: versions of one number share the libraries, and are loaded side by side.
        aside = built / f".{path.name}.{os.getpid()}.{threading.get_ident()}"
        words = ["cc", "-shared", "-fPIC", f"-Wl,-soname,{path.name}", "-o", str(aside), str(source)]
        try:
            subprocess.run(words, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise NotHereError(f"no C compiler ({error})") from error
        aside.replace(path)
    return built


def _dump() -> None:
    """Print the API of the bindings that are importable; runs in a process of its own."""
    import tensorrt_bindings as trt  # type: ignore[import-not-found]

    api: Api = {"": {name: [] for name in dir(trt) if not name.startswith("_")}}
    for name in ENUMS:
        api[name] = {member: [] for member in getattr(trt, name).__members__}
    api["ILogger.Severity"] = {member: [] for member in trt.ILogger.Severity.__members__}
    for name in CLASSES:
        members = {key: getattr(getattr(trt, name), key) for key in dir(getattr(trt, name))}
        api[name] = {
            key: _overloads(key, value)
            for key, value in members.items()
            if not key.startswith("_") or key == "__init__"
        }
    print(json.dumps(api))


def _overloads(name: str, member: Any) -> list[Any]:
    if isinstance(member, property):
        return [["property", _type((member.fget.__doc__ or "").rpartition("->")[2])]]
    lines = re.findall(rf"^(?:\d+\. )?{name}\((.*)\) -> (.*)$", member.__doc__ or "", re.M)
    return [[_arguments(text), _type(result)] for text, result in lines if text != "*args, **kwargs"]


def _arguments(text: str) -> list[str]:
    """Return the names in "self: A, flags: int = 0", without self; "?" behind those with a default."""
    pieces, depth, piece = [], 0, ""
    for letter in text:
        depth += (letter in "([{<") - (letter in ")]}>")
        if letter == "," and depth == 0:
            pieces.append(piece)
            piece = ""
        else:
            piece += letter
    names = [(part.partition(":")[0].strip(), "=" in part) for part in [*pieces, piece]]
    return [name + "?" * has_default for name, has_default in names if name not in ("self", "arg0", "")]


def _type(text: str) -> str:
    """Return the short name of a type; pybind11 did not know the parser's error by its own."""
    short = text.strip().replace("tensorrt_bindings.tensorrt.", "")
    return {"nvonnxparser::IParserError": "ParserError"}.get(short, short)


def pycuda_names(source: str) -> Api:
    """Return the API that PyCUDA's C++ wrappers define: class -> members, "" -> what is not in a class."""
    source = re.sub(r"//[^\n]*", "", source)
    api: Api = {"": {}}
    owner = ""
    token = re.compile(
        r"(?P<open>(?:class_|enum_)<[^;]*?>\s*(?:wrp)?\s*\(\s*\"(?P<kind>\w+)\")"
        r"|(?P<exception>DECLARE_EXC\((?P<error>\w+))"
        r"|(?P<value>\.value\(\"(?P<member>\w+)\")"
        r"|(?P<method>\.def\(\"(?P<def>\w+)\"(?P<rest>[^;]*?)(?=\n\s*[.;#]))"
        r"|(?P<simple>\.DEF_SIMPLE_METHOD\((?P<short>\w+)\))"
        r"|(?P<property>\.(?:add_property|def_readonly|def_readwrite)\(\"(?P<attribute>\w+)\")"
        r"|(?P<function>py::def\(\"(?P<name>\w+)\"(?P<args>[^;]*);)"
        r"|(?P<plain>DEF_SIMPLE_FUNCTION(?:_WITH_ARGS)?\((?P<plain_name>\w+))",
        re.S,
    )
    for found in token.finditer(source):
        part = found.groupdict()
        if part["open"]:
            owner = part["kind"]
            api[""].setdefault(owner, [])
            api.setdefault(owner, {})
        elif part["exception"]:
            api[""][part["error"]] = []
        elif part["value"]:
            api[owner][part["member"]] = []
        elif part["method"]:
            api[owner][part["def"]] = [[_cpp_arguments(part["rest"]), ""]]
        elif part["simple"]:
            api[owner][part["short"]] = [[[], ""]]
        elif part["property"]:
            api[owner][part["attribute"]] = [["property", ""]]
        elif part["function"]:
            api[""][part["name"]] = [[_cpp_arguments(part["args"]), ""]]
        else:
            api[""][part["plain_name"]] = [[None, ""]]
    return {name: api[name] for name in PYCUDA_CLASSES}


def _cpp_arguments(text: str) -> list[str] | None:
    """Return the names in py::args("a", "b"), py::arg("c")=0; None where there are none to read."""
    names = []
    for group, single, default in re.findall(r"py::args\(([^)]*)\)|py::arg\(\"(\w+)\"\)\s*(=)?", text):
        names += re.findall(r"\"(\w+)\"", group) if group else [single + "?" * bool(default)]
    return [name for name in names if name != "self"] or None


def main(folder: Path) -> None:
    """Write api.json anew."""
    folder.mkdir(parents=True, exist_ok=True)
    apis = {f"tensorrt {version}": real_tensorrt(version, folder) for version in TENSORRT}
    apis[f"pycuda {PYCUDA}"] = real_pycuda(folder)
    RECORDED.write_text(to_text(apis), encoding="utf-8")


def to_text(apis: dict[str, Api]) -> str:
    """Return JSON with a line for each class: a change is then seen at a glance."""
    blocks = []
    for package, api in apis.items():
        lines = [
            f"  {json.dumps(name)}: {json.dumps(members, sort_keys=True)}" for name, members in sorted(api.items())
        ]
        blocks.append(f" {json.dumps(package)}: {{\n" + ",\n".join(lines) + "\n }")
    return "{\n" + ",\n".join(blocks) + "\n}\n"


if __name__ == "__main__":
    if sys.argv[1:] == ["--dump"]:
        _dump()
    else:
        main(Path(sys.argv[1]))
