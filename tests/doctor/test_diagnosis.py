"""What follows from a machine's GPUs and software."""

import importlib.metadata
import json
import subprocess
import sys

import pytest
from stand_in_driver import with_driver

from nvfp4_trt.doctor import diagnose
from nvfp4_trt.doctor.software import packages

RTX5090 = ("NVIDIA GeForce RTX 5090", "12.0", "32607")
HOPPER = ("NVIDIA H100 80GB HBM3", "9.0", "81559")


def targets(found):
    return {(t.backend, t.architecture): t for t in found.targets}


def test_without_a_driver(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    found = diagnose()
    assert found.gpus == ("", (), "nvidia-smi is not on the PATH: no NVIDIA driver")
    target = targets(found)["tensorrt_rtx", "sm_120"]
    assert (target.builds, target.runs, target.reason) == (True, False, "no sm_120 GPU here")
    assert not any(t.builds or t.runs for t in found.targets if t.backend == "tensorrt")


def test_on_a_blackwell(tmp_path, monkeypatch):
    with_driver(tmp_path, monkeypatch, RTX5090)
    found = diagnose()
    assert found.gpus.driver == "580.95.05"
    assert found.gpus.found == (("NVIDIA GeForce RTX 5090", "sm_120", 32607),)
    here, other = targets(found)["tensorrt_rtx", "sm_120"], targets(found)["tensorrt_rtx", "sm_121"]
    assert (here.builds, here.runs, here.reason) == (True, True, "")
    assert (other.builds, other.runs) == (True, False)


def test_on_a_hopper(tmp_path, monkeypatch):
    with_driver(tmp_path, monkeypatch, HOPPER, HOPPER)
    target = targets(diagnose())["tensorrt_rtx", "sm_120"]
    assert (target.builds, target.runs) == (True, False)
    assert target.reason.startswith("no sm_120 GPU here, only NVIDIA H100 80GB HBM3 (sm_90)")


def test_memory_that_the_driver_does_not_tell(tmp_path, monkeypatch):
    with_driver(tmp_path, monkeypatch, ("NVIDIA GB10", "12.1", "[N/A]"))
    assert diagnose().gpus.found == (("NVIDIA GB10", "sm_121", 0),)


@pytest.mark.parametrize(
    ("status", "said", "told"),
    [(9, "NVIDIA-SMI has failed", "nvidia-smi: NVIDIA-SMI has failed"), (0, "", "nvidia-smi lists no GPU")],
)
def test_a_driver_that_is_broken(tmp_path, monkeypatch, status, said, told):
    with_driver(tmp_path, monkeypatch, status=status, said=said)
    assert diagnose().gpus == ("", (), told)


def test_versions_are_those_that_are_installed():
    found = {each.name: each for each in packages()}
    assert found["onnx"].version == importlib.metadata.version("onnx")
    assert found["onnx"].works


def test_what_is_not_there_comes_with_its_install_line(monkeypatch):
    real = importlib.metadata.version

    def version(name):
        if name == "triton":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    missing = {each.name: each.install for each in diagnose().missing}
    assert missing["triton"] == "pip install 'nvfp4-trt[kernels]'"
    assert "onnx" not in missing


def test_a_backend_that_is_installed_and_does_not_load(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)  # as Python itself marks what cannot be imported
    found = diagnose()
    rtx = next(each for each in found.software if each.name == "tensorrt_rtx")
    assert rtx.version == importlib.metadata.version("tensorrt-rtx-cu13")
    assert "cannot be imported" in rtx.trouble
    assert not rtx.works
    assert targets(found)["tensorrt_rtx", "sm_120"].reason == rtx.trouble


def test_the_command():
    command = [sys.executable, "-m", "nvfp4_trt.cli", "doctor"]
    told = json.loads(subprocess.run([*command, "--json"], capture_output=True, check=True, text=True).stdout)
    assert {"python", "driver", "gpus", "software", "targets"} <= told.keys()
    assert {t["architecture"] for t in told["targets"] if t["builds"]} >= {"sm_120", "sm_121"}
    people = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    assert "Engines" in people
    assert "pip install tensorrt" in people
