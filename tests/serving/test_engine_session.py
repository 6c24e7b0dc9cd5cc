"""What loads and runs engines: every name that it takes from TensorRT is there, as far as can be seen here."""

import ast
import inspect

import pytest
import tensorrt_rtx
from bound_names import lacks_full, lacks_rtx
from cuda.bindings import driver

from nvfp4_trt.kernels import gpu as device
from nvfp4_trt.serving import engine_session

HOLDERS = {
    "trt": "",
    "self._runtime": "Runtime.",
    "runtime": "Runtime.",
    "context": "IExecutionContext.",
    "self._engines[entry.file]": "ICudaEngine.",
}
"""Expressions in the source → the class of what they hold."""


def used_names():
    found = set()
    for node in ast.walk(ast.parse(inspect.getsource(engine_session))):
        if isinstance(node, ast.Attribute):
            for expression, holder in HOLDERS.items():
                text = ast.unparse(node)
                if text.startswith(f"{expression}.") and text.removeprefix(f"{expression}.").isidentifier():
                    found.add(holder + node.attr)
    return found - {"__version__"}


def test_the_walk_sees_the_names():
    assert used_names() >= {
        "Runtime",
        "Logger",
        "Runtime.engine_host_code_allowed",
        "Runtime.deserialize_cuda_engine",
        "ICudaEngine.create_execution_context",
        "IExecutionContext.execute_async_v3",
        "IExecutionContext.set_optimization_profile_async",
    }


@pytest.mark.parametrize("path", sorted(used_names()))
def test_tensorrt_rtx_has_the_name(path):
    assert lacks_rtx(path) == ""


@pytest.mark.parametrize("path", sorted(used_names()))
def test_full_tensorrt_has_the_name(path):
    assert lacks_full(path) == ""


def test_the_driver_has_every_call():
    calls = {
        node.args[0].value
        for node in ast.walk(ast.parse(inspect.getsource(device)))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "self._call"
    }
    assert len(calls) > 8
    for name in calls:
        assert callable(getattr(driver, name))


def test_engines_may_not_run_code_on_the_host():
    source = inspect.getsource(engine_session)
    assert source.count("engine_host_code_allowed = False") == 1
    runtime = tensorrt_rtx.Runtime(tensorrt_rtx.Logger(tensorrt_rtx.Logger.ERROR))
    runtime.engine_host_code_allowed = False
    assert not runtime.engine_host_code_allowed
