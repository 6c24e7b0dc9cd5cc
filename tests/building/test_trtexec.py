import shlex
from pathlib import Path

from nvfp4_trt.building import BackendName
from nvfp4_trt.building.profiles import InputProfile
from nvfp4_trt.building.trtexec import trtexec_line

PROFILE = {
    "ids": InputProfile((1, 1), (2, 12), (8, 48)),
    "x:0": InputProfile((1, 64), (3, 64), (12, 64)),
}


def test_full_tensorrt():
    line = trtexec_line(BackendName.TENSORRT, (), Path("m.onnx"), Path("m.engine"), PROFILE)
    assert shlex.split(line) == [
        "trtexec",
        "--onnx=m.onnx",
        "--saveEngine=m.engine",
        "--profilingVerbosity=detailed",
        "--stronglyTyped",
        "--minShapes=ids:1x1,x:0:1x64",
        "--optShapes=ids:2x12,x:0:3x64",
        "--maxShapes=ids:8x48,x:0:12x64",
    ]


def test_rtx_names_its_targets():
    line = trtexec_line(BackendName.TENSORRT_RTX, ("sm_120", "sm_121"), Path("m.onnx"), Path("m.engine"), {})
    assert shlex.split(line) == [
        "tensorrt_rtx",
        "--onnx=m.onnx",
        "--saveEngine=m.engine",
        "--profilingVerbosity=detailed",
        "--computeCapabilities=12.0,12.1",
    ]


def test_a_path_with_spaces_stays_one_word():
    words = shlex.split(trtexec_line(BackendName.TENSORRT, (), Path("a b/m.onnx"), Path("e"), {}))
    assert "--onnx=a b/m.onnx" in words


def test_plugin_nodes_need_the_library():
    line = trtexec_line(BackendName.TENSORRT, (), Path("m.onnx"), Path("e"), {}, plugin="lib/my plugin.so")
    assert "--dynamicPlugins=lib/my plugin.so" in shlex.split(line)
    assert "Plugins" not in trtexec_line(BackendName.TENSORRT, (), Path("m.onnx"), Path("e"), {})
