"""The two modules: every name that the builder uses exists in them, as far as they can be seen here."""

import ast
import importlib
import importlib.metadata
import importlib.util
import inspect
import sys

import pytest
import tensorrt_rtx
from bound_names import full_bindings, lacks_full, lacks_rtx
from stand_in_driver import with_driver

from nvfp4_trt.building import BACKENDS, BackendName, backends, choose_backend, network, plugins
from nvfp4_trt.errors import (
    BackendMissingError,
    FeatureUnsupportedError,
    PluginsUnsupportedError,
    TargetUnsupportedError,
)
from nvfp4_trt.plugin import classes, expressions

B200 = ("NVIDIA B200", "10.0", "183359")
RTX, FULL = BACKENDS[BackendName.TENSORRT_RTX], BACKENDS[BackendName.TENSORRT]
HOLDERS = {
    "builder": "Builder",
    "config": "IBuilderConfig",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "problem": "ParserError",
    "profile": "IOptimizationProfile",
    "runtime": "Runtime",
    "loaded": "ICudaEngine",
    "inspector": "EngineInspector",
    "registry": "IPluginRegistry",
}
"""Names of variables in the builder's source → the class of what they hold."""
ONLY_RTX = {"set_targets"}
"""Functions that run only where the backend cross-compiles."""


def used_names(*, without=()):
    """Return what the builder and the plugin take from the module: dotted paths, `trt.…` or `Class.member`."""
    found = set()
    for module in (network, backends, plugins, classes, expressions):
        tree = ast.parse(inspect.getsource(module))
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        left_out = {id(x) for f in functions if f.name in without for x in ast.walk(f)}
        for node in ast.walk(tree):
            if id(node) not in left_out:
                found |= _paths(node)
    return found


def _paths(node):
    if (
        isinstance(node, ast.Call)
        and ast.unparse(node.func) == "getattr"
        and isinstance(node.args[1], ast.Constant)
    ):
        path = f"{ast.unparse(node.args[0])}.{node.args[1].value}"
    elif isinstance(node, ast.Attribute):
        path = ast.unparse(node)
    else:
        return set()
    root, _, rest = path.partition(".")
    if root == "trt" and rest.replace(".", "").isidentifier():
        return {rest}
    return {f"{HOLDERS[root]}.{rest}"} if root in HOLDERS and rest.isidentifier() else set()


def test_the_walk_sees_the_names():
    assert used_names() >= {
        "Builder",
        "ProfilingVerbosity.DETAILED",
        "NetworkDefinitionCreationFlag.STRONGLY_TYPED",
        "LayerType.ATTENTION_OUTPUT",
        "Builder.build_serialized_network",
        "IBuilderConfig.set_compute_capability",
        "IOptimizationProfile.set_shape",
        "OnnxParser.parse_from_file",
        "EngineInspector.get_engine_information",
        "INetworkDefinition.get_layer",
        "IPluginRegistry.load_library",
        "IPluginRegistry.register_creator",
        "IPluginCreatorV3One.__init__",
        "IPluginV3OneRuntime",
        "TensorFormat.LINEAR",
        "PluginFieldType.CHAR",
    }


@pytest.mark.parametrize("path", sorted(used_names()))
def test_tensorrt_rtx_has_the_name(path):
    assert lacks_rtx(path) == ""


@pytest.mark.parametrize("target", RTX.targets)
def test_tensorrt_rtx_has_the_architecture(target):
    assert hasattr(tensorrt_rtx.ComputeCapability, target.replace("sm_", "SM"))


@pytest.mark.parametrize("path", sorted(used_names(without=ONLY_RTX)))
def test_full_tensorrt_has_the_name(path):
    assert lacks_full(path) == ""


def test_full_tensorrt_lacks_what_only_rtx_has():
    """What shows that the test above can fail; and that full TensorRT cannot cross-compile this way."""
    names = used_names() - used_names(without=ONLY_RTX)
    assert "IBuilderConfig.set_compute_capability" in names
    for path in names:
        assert f"{path.split('.')[-1]}\0".encode() not in full_bindings()


def test_rtx_is_chosen_by_name():
    assert choose_backend("tensorrt_rtx") is RTX
    assert RTX.load() is tensorrt_rtx


def hide(monkeypatch, *names):
    """Let modules look not installed."""
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in names else real(name))


def test_by_default_the_one_that_is_installed(monkeypatch):
    hide(monkeypatch, "tensorrt")
    assert choose_backend(None) is RTX


def test_named_and_not_installed(monkeypatch):
    hide(monkeypatch, "tensorrt_rtx")
    with pytest.raises(BackendMissingError, match="tensorrt_rtx is not installed") as caught:
        choose_backend("tensorrt_rtx")
    assert "nvfp4-trt[rtx]" in caught.value.hint


def test_none_installed(monkeypatch):
    hide(monkeypatch, "tensorrt", "tensorrt_rtx")
    with pytest.raises(BackendMissingError, match="neither"):
        choose_backend(None)


def broken_module(folder, monkeypatch, source):
    (folder / "tensorrt.py").write_text(source)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setitem(sys.modules, "tensorrt", None)  # so that what the test imports is taken away after it
    monkeypatch.delitem(sys.modules, "tensorrt")


def test_installed_and_not_importable(tmp_path, monkeypatch):
    broken_module(tmp_path, monkeypatch, "raise OSError('libnvinfer.so.10: cannot open shared object file')\n")
    with pytest.raises(BackendMissingError, match=r"libnvinfer\.so"):
        FULL.load()


def test_too_old(tmp_path, monkeypatch):
    broken_module(tmp_path, monkeypatch, "__version__ = '10.7.0.post1'\n")
    with pytest.raises(FeatureUnsupportedError, match=r"10\.7\.0") as caught:
        FULL.load()
    assert "10.8" in caught.value.hint


@pytest.mark.parametrize("target", ["sm_100", "sm_103", "sm_89", "sm_90", "120", ""])
def test_rtx_refuses_other_architectures(target):
    with pytest.raises(TargetUnsupportedError) as caught:
        RTX.check_targets(["sm_120", target])
    assert "sm_120, sm_121" in caught.value.hint
    assert ("tensorrt builds for" in caught.value.hint) == (target in FULL.targets)


def test_rtx_takes_both_at_once():
    RTX.check_targets(["sm_120", "sm_121"])


def test_full_builds_for_the_gpu_that_is_here(tmp_path, monkeypatch):
    with_driver(tmp_path, monkeypatch, B200)
    FULL.check_targets([])
    FULL.check_targets(["sm_100"])
    with pytest.raises(TargetUnsupportedError, match="sm_100, not for sm_120") as caught:
        FULL.check_targets(["sm_120"])
    assert "tensorrt_rtx" in caught.value.hint


def test_full_builds_for_one_at_a_time(tmp_path, monkeypatch):
    with_driver(tmp_path, monkeypatch, B200)
    with pytest.raises(TargetUnsupportedError, match="one GPU at a time"):
        FULL.check_targets(["sm_100", "sm_120"])


def test_full_needs_a_gpu(tmp_path, monkeypatch):
    with_driver(tmp_path, monkeypatch, status=9)
    with pytest.raises(BackendMissingError, match="nvidia-smi finds none"):
        FULL.check_targets(["sm_100"])


def test_which_backend_takes_plugins():
    FULL.check_plugins()
    with pytest.raises(PluginsUnsupportedError, match="tensorrt_rtx builds no plugins") as caught:
        RTX.check_plugins()
    assert "drop --plugin" in caught.value.hint


def test_rtx_has_no_way_to_add_a_plugin():
    """Why it is refused: a release that has one changes this."""
    assert not [name for name in dir(tensorrt_rtx.INetworkDefinition) if name.startswith("add_plugin")]
