"""`nvfp4-trt check`: what it prints, and how it fails."""

import pytest


def test_as_json(run, exported):
    ran = run("check", "net.onnx", "--json")
    assert ran.status == 0
    assert ran.json["quantized"] is True
    assert ran.json["counts"] == {"nvfp4": 3, "float32": 1}
    layers = {layer["name"]: layer for layer in ran.json["layers"]}
    assert set(layers) == {"up", "odd", "down", "head"}
    assert (layers["up"]["precision"], layers["up"]["shape"]) == ("nvfp4", [128, 64])
    head = layers["head"]
    assert (head["precision"], head["code"], head["severity"]) == ("float32", "n-one", "cannot")
    assert head["reason"]
    assert head["remedy"] == "pad N from 1 to 2"


def test_for_people(run):
    ran = run("check", "w.pt", "--model", "cli_models:Net")
    assert ran.status == 0
    lines = ran.out.splitlines()
    assert lines[1].split() == ["layer", "kind", "shape", "precision", "reason", "remedy"]
    assert lines[2].split()[:4] == ["up", "Linear", "128x64", "nvfp4"]
    assert lines[-2] == "3 layers nvfp4, 1 layer float32; as `nvfp4-trt export` would quantize it"
    assert "give --input or --inputs" in lines[-1]


def test_with_inputs_the_model_is_traced(run):
    ran = run("check", "w.pt", "--model", "cli_models:Net", "--input", "x:float32:2x64", "--json")
    assert (ran.status, ran.json["traced"]) == (0, True)
    assert ran.json["counts"] == {"nvfp4": 3, "float32": 1}


def test_required_layers_that_are_fp4(run, exported):
    assert run("check", "net.onnx", "--require", "up", "--require", "*d*").status == 1
    assert run("check", "net.onnx", "--require", "up", "--require", "o*").status == 0


@pytest.mark.parametrize(
    ("arguments", "status", "code", "said"),
    [
        (["net.onnx", "--require", "head"], 1, "not-fp4", "1 of 1 required layers would not be FP4: head (N = 1"),
        (["net.onnx", "--require", "tail"], 2, "pattern-no-match", "--require 'tail'"),
        (["none.onnx"], 2, "file-missing", "none.onnx"),
        (["w.pt"], 2, "wrong-kind", "w.pt"),
    ],
)
def test_failures(fails, exported, arguments, status, code, said):
    fails(["check", *arguments], status=status, code=code, said=said)
