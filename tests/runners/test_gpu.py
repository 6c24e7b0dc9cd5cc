"""Which GPU runs an engine, and what TensorRT's refusals become."""

import pytest
from stand_in_driver import with_driver

from nvfp4_trt.errors import EngineRunError, GpuMissingError, GpuUnsupportedError
from nvfp4_trt.runners.gpu import refusal, this_gpu

HOPPER = (
    "IRuntime::deserializeCudaEngine: Error Code 6: API Usage Error (The engine cannot run on this GPU, which has "
    "compute capability 9.0. Supported compute capabilities: 12.0. TensorRT-RTX does not support this compute "
    "capability, so the engine cannot be rebuilt for it. In throwUnlessComputeCapSupported at "
    "/_src/runtime/dispatch/runtime.cpp:84)"
)
"""What TensorRT-RTX 1.7.1.116 said on an H200."""


def test_the_gpu_that_an_engine_was_built_for(tmp_path, monkeypatch):
    with_driver(tmp_path, monkeypatch, ("NVIDIA GeForce RTX 5090", "12.0", "32607"))
    assert this_gpu(("sm_120", "sm_121")).name == "NVIDIA GeForce RTX 5090"
    assert this_gpu().architecture == "sm_120"


def test_no_driver(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(GpuMissingError, match="no NVIDIA driver") as caught:
        this_gpu(("sm_120",))
    assert caught.value.exit_status == 3


def test_a_driver_without_a_gpu(tmp_path, monkeypatch):
    with_driver(tmp_path, monkeypatch, said="No devices were found", status=6)
    with pytest.raises(GpuMissingError, match="No devices were found"):
        this_gpu()


def test_a_hopper(tmp_path, monkeypatch):
    with_driver(tmp_path, monkeypatch, ("NVIDIA H100 80GB HBM3", "9.0", "81559"))
    with pytest.raises(GpuUnsupportedError, match="H100 80GB HBM3, is sm_90, and the engine was built for sm_120"):
        this_gpu(("sm_120",))


@pytest.mark.parametrize(
    ("said", "kind", "hint"),
    [
        (HOPPER, GpuUnsupportedError, "Blackwell"),
        ("The engine plan contains host code, which is not allowed", EngineRunError, "--allow-host-code"),
        ("Serialization (Version tag does not match)", EngineRunError, "build the engine again"),
        ("CUDA initialization failure with error: 2", EngineRunError, "free memory"),
        ("", EngineRunError, "free memory"),
    ],
)
def test_what_tensorrt_says(said, kind, hint):
    found = refusal(said, "model.engine on tensorrt_rtx 1.7")
    assert type(found) is kind
    assert "model.engine" in found.message
    assert (said or "it gives no reason") in found.message
    assert hint in found.hint
