"""`nvfp4-trt run` and `bench`: what they refuse where there is no GPU, or another."""

import pytest
from stand_in_driver import with_driver

HOPPER = ("NVIDIA H100 80GB HBM3", "9.0", "81559")


@pytest.mark.parametrize("command", ["run", "bench"])
def test_no_driver(fails, built, monkeypatch, command):
    monkeypatch.setenv("PATH", "/nowhere")
    arguments = (command, "net.engine", "-o", "{out}/o")
    error = fails(arguments, status=3, code="gpu-missing", said="no NVIDIA driver")
    assert "nvfp4-trt doctor" in error["hint"]


@pytest.mark.parametrize("command", ["run", "bench"])
def test_no_gpu(fails, built, tmp_path, monkeypatch, command):
    with_driver(tmp_path, monkeypatch)
    fails((command, "net.engine", "-o", "{out}/o"), status=3, code="gpu-missing", said="lists no GPU")


@pytest.mark.parametrize("command", ["run", "bench"])
def test_a_hopper(fails, built, tmp_path, monkeypatch, command):
    with_driver(tmp_path, monkeypatch, HOPPER)
    error = fails((command, "net.engine", "-o", "{out}/o"), status=3, code="gpu-unsupported", said="is sm_90")
    assert "Blackwell" in error["hint"]


@pytest.mark.parametrize("command", ["run", "bench"])
def test_no_engine(fails, command):
    fails((command, "nowhere.engine", "-o", "{out}/o"), status=2, code="file-missing", said="nowhere.engine")
    fails((command, "{out}", "-o", "{out}/o"), status=2, code="not-a-model", said="is a folder")


@pytest.mark.parametrize("command", ["run", "bench"])
def test_an_output_that_cannot_be_written(fails, built, command):
    arguments = (command, "net.engine", "-o", "{out}/no/o")
    fails(arguments, status=2, code="output-unwritable", said="out/no")


def test_a_gpu_that_its_driver_alone_knows_of(fails, built, tmp_path, monkeypatch):
    """What nvidia-smi says is believed until CUDA itself is asked: the machines that run this have none."""
    with_driver(tmp_path, monkeypatch, ("NVIDIA GeForce RTX 5090", "12.0", "32607"))
    fails(("bench", "net.engine"), status=3, code="dependency-missing", said="NVIDIA driver")


def test_a_baseline_needs_the_portable_file(fails, built, tmp_path, monkeypatch):
    with_driver(tmp_path, monkeypatch, ("NVIDIA GeForce RTX 5090", "12.0", "32607"))
    error = fails(
        ("bench", "net.engine", "--against", "bf16", "--onnx", "nowhere.onnx"),
        status=2,
        code="file-missing",
        said="nowhere.onnx",
    )
    assert "--onnx" in error["hint"]


def test_options_that_go_together(fails, built):
    fails(("bench", "net.engine", "--onnx", "net.onnx"), status=2, code="usage", said="--onnx goes with --against")
    fails(("bench", "net.engine", "--against", "int8"), status=2, code="usage", said="'int8' is not one of")
