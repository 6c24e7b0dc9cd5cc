"""`nvfp4-trt prove`: what it leaves without a GPU, and what it refuses before anything is done."""

import json
import sys

import pytest
from rich.console import Console
from stand_in_driver import with_driver

from nvfp4_trt import Proof
from nvfp4_trt.printing.proof import proof_summary

NET = ("--model", "cli_models:Net", "--inputs", "x.npz", "--dynamic", "batch")
RTX5090 = ("NVIDIA GeForce RTX 5090", "12.0", "32607")
HOPPER = ("NVIDIA H100 80GB HBM3", "9.0", "81559")


def test_without_a_gpu(run, out):
    folder = out / "proof"
    ran = run("prove", "w.pt", *NET, "-o", folder, "--without-gpu", "--json")
    assert ran.status == 0, ran
    told = ran.json
    assert [(each["name"], each["done"]) for each in told["stages"]] == [
        ("export", True), ("build", True), ("compare", True), ("run", False), ("bench", False), ("report", True),
    ]  # fmt: skip
    said = {each["name"]: each["said"] for each in told["stages"]}
    assert said["export"] == "3 of 4 layers are quantized"
    assert said["build"].startswith("3 of 3 GEMMs are FP4")
    assert "dB" in said["compare"]
    assert "--without-gpu" in said["bench"]
    assert (told["schema"], told["gpu"], told["folder"]) == ("nvfp4-trt/prove/1", "", str(folder))
    files = {path.name: path for path in folder.iterdir()}
    noted = {file for each in told["stages"] for file in each["files"]}
    assert set(files) == noted | {"summary.json"}
    assert {"model.onnx", "model.trt.onnx", "model.engine", "model.engine.json", "report.html"} <= noted
    assert json.loads(files["summary.json"].read_text()) == told
    line = json.loads(files["model.engine.json"].read_text())["trtexec"]
    assert "--onnx=model.trt.onnx --saveEngine=model.engine" in line
    assert b".proof." not in files["report.html"].read_bytes()  # where the folder was made
    console = Console(width=250)
    with console.capture() as captured:
        console.print(*proof_summary(Proof.model_validate(told)), sep="\n")
    lines = captured.get().splitlines()
    assert any(line.startswith("bench") and "not run" in line for line in lines)
    assert lines[-1] == "not run: run, bench"
    again = run("inspect", folder / "model.engine", "--json")
    assert again.json["fp4"] == {"requested": 3, "realized": 3}


REFUSED = [
    ((), None, "gpu-missing", 3, "no NVIDIA driver"),
    ((), HOPPER, "gpu-unsupported", 3, "is sm_90, and tensorrt_rtx builds FP4 engines for sm_120, sm_121"),
    (("--target", "sm_121"), RTX5090, "gpu-unsupported", 3, "is sm_120"),
    ((), RTX5090, "dependency-missing", 3, "NVIDIA driver"),  # CUDA itself says that there is none
    (("--backend", "tensorrt", "--without-gpu"), None, "backend-missing", 3, "tensorrt is not installed"),
    (("--target", "sm_100", "--without-gpu"), None, "target-unsupported", 2, "sm_100"),
]


@pytest.mark.parametrize(("options", "gpu", "code", "status", "said"), REFUSED)
def test_refusals_come_before_the_model_is_even_looked_for(
    fails, tmp_path, monkeypatch, options, gpu, code, status, said
):
    if gpu is None:
        monkeypatch.setenv("PATH", "/nowhere")
    else:
        with_driver(tmp_path, monkeypatch, gpu)
    backend = () if "--backend" in options else ("--backend", "tensorrt_rtx")
    arguments = ("prove", "nowhere.pt", "-o", "{out}/p", *backend, *options)
    monkeypatch.setitem(sys.modules, "tensorrt", None)  # what Python keeps for a module that cannot be imported
    fails(arguments, status=status, code=code, said=said)


def test_a_folder_that_is_there_already(run, out):
    (out / "p").mkdir()
    ran = run("prove", "w.pt", *NET, "-o", out / "p", "--without-gpu", "--json")
    assert (ran.status, ran.json["error"]["code"]) == (2, "output-unwritable")
    assert "exists already" in ran.json["error"]["message"]


def test_a_checkpoint_has_nothing_to_compare_with(run, fails, assets, out):
    packed = assets / "proved.safetensors"
    assert run("pack", "big.safetensors", "-o", packed).status == 0
    fails(
        ("prove", packed, "--model", "cli_models:big", "-o", "{out}/p", "--without-gpu"),
        status=2,
        code="wrong-kind",
        said="no float model to compare with",
    )


def test_a_stage_that_fails_leaves_nothing(fails):
    arguments = ("prove", "w.pt", *NET, "-o", "{out}/p", "--without-gpu", "--dim", "sequence=1:2:3")
    fails(arguments, status=2, code="profile-invalid", said="sequence")
