"""What runs engines: every name that it takes from TensorRT and the driver is there, as far as is seen here."""

import ast
import inspect
from pathlib import Path

import polygraphy
import pytest
import tensorrt_rtx
from bound_names import lacks_full, lacks_rtx
from cuda.bindings import driver

from nvfp4_trt.benching import opened
from nvfp4_trt.kernels import gpu
from nvfp4_trt.runners import engine_runner
from nvfp4_trt.timing import events, memory

HOLDERS = {
    "trt": "",
    "runtime": "Runtime.",
    "runner.context": "IExecutionContext.",
    "self._runner.context": "IExecutionContext.",
    "self._runner.engine": "ICudaEngine.",
}
"""Expressions in the sources → the class of what they hold."""


def attributes(*modules):
    for module in modules:
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.Attribute):
                yield node


def used_names():
    found = set()
    for node in attributes(opened, engine_runner):
        holder = HOLDERS.get(ast.unparse(node.value))
        if holder is not None and not node.attr.startswith("__"):
            found.add(holder + node.attr)
    return found


def test_the_walk_sees_the_names():
    assert used_names() == {
        "Runtime",
        "Runtime.engine_host_code_allowed",
        "Runtime.deserialize_cuda_engine",
        "ICudaEngine.get_tensor_dtype",
        "IExecutionContext.execute_async_v3",
        "IExecutionContext.set_output_allocator",
        "IExecutionContext.set_tensor_address",
    }


@pytest.mark.parametrize("path", sorted(used_names()))
def test_both_tensorrts_have_the_name(path):
    assert lacks_rtx(path) == ""
    assert lacks_full(path) == ""


def test_the_driver_has_every_call():
    calls = {
        node.args[position].value
        for module in (events, memory, gpu)
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.Call)
        for name, position in (("call", 1), ("self._call", 0))
        if ast.unparse(node.func) == name and isinstance(node.args[position], ast.Constant)
    }
    assert {"cuEventElapsedTime", "cuStreamBeginCapture", "cuGraphInstantiate", "cuMemGetInfo"} <= calls
    for name in calls:
        assert callable(getattr(driver, name))


def test_polygraphys_runner_has_what_is_taken_of_it():
    """Its text is read: importing it would decide for this whole process which TensorRT Polygraphy uses."""
    source = (Path(polygraphy.__file__).parent / "backend" / "trt" / "runner.py").read_text("utf-8")
    for name in ("self.stream = ", "self.output_allocator = ", "self.context = ", "self.engine = "):
        assert name in source
    assert "def infer_impl(self, feed_dict, copy_outputs_to_host=None, return_raw_buffers=None)" in source


def test_engines_may_not_run_code_on_the_host_unasked():
    runtime = tensorrt_rtx.Runtime(tensorrt_rtx.Logger(tensorrt_rtx.Logger.ERROR))
    runtime.engine_host_code_allowed = False
    assert not runtime.engine_host_code_allowed
    assert inspect.signature(engine_runner.load_engine).parameters["allow_host_code"].default is False
