"""Full TensorRT's Python bindings, loaded for what they say of themselves."""

import importlib.metadata
import subprocess
import sys
import textwrap

import pytest

_FUNCTIONS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
)


@pytest.fixture(scope="session")
def with_full_bindings(tmp_path_factory):
    """Return the function that runs a script in which `import tensorrt` gives full TensorRT's bindings.

    They link to libraries that are in no package that can be had here. The dynamic linker gets three in their
    place whose functions do nothing: none of them is called by what the scripts look at, which is the bindings'
    classes and the Python files beside them.
    """
    folder = tmp_path_factory.mktemp("bindings")
    (folder / "inert.c").write_text("\n".join(f"void *{name}(void) {{ return 0; }}" for name in _FUNCTIONS))
    for name in ("nvinfer", "nvinfer_plugin", "nvonnxparser"):
        made = folder / f"lib{name}.so.11"
        command = ["g++", "-shared", "-fPIC", "-x", "c", str(folder / "inert.c"), "-o", str(made)]
        subprocess.run([*command, f"-Wl,-soname,{made.name}"], check=True)
    files = importlib.metadata.files("tensorrt-cu13-bindings")
    (library,) = (f for f in files if f.name == "tensorrt.so")
    (folder / "tensorrt").symlink_to(library.locate().parent, target_is_directory=True)

    def run(script, *arguments):
        environment = {"LD_LIBRARY_PATH": str(folder), "PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin"}
        told = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert told.returncode == 0, told.stderr
        return told.stdout

    return run
