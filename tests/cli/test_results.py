"""What the commands print when all goes well."""

import json

import onnx
import pytest

from nvfp4_trt.portable import load

FILL = ("--model", "cli_models:Net", "--inputs", "x.npz")


def test_export_as_json(exported):
    path, told = exported
    assert told["onnx"] == "net.onnx"
    assert told["onnx_bytes"] == path.stat().st_size
    assert told["recipe"] == "w4a4-dynamic-token"
    assert told["random_inputs"] is False
    assert len(told["source_sha256"]) == 64
    assert [(x["name"], x["precision"], x["reason"]) for x in told["layers"]] == [
        ("up", "nvfp4", ""),
        ("odd", "nvfp4", ""),
        ("down", "nvfp4", ""),
        ("head", "float32", "N = 1: TensorRT builds no GEMM"),
    ]
    onnx.checker.check_model(path)


def test_export_with_a_weight_method(run, out):
    """It is in the file's recipe and in its codes."""
    name, common = out / "a.onnx", ("export", "w.pt", "--model", "cli_models:Net", "--json", "-o")
    codes = {}
    for method in ("max", "gptq+mse"):
        ran = run(*common, name, "--inputs", "x.npz", "--weights", method)
        assert (ran.status, ran.json["recipe"]) == (0, "w4a4-dynamic-token")
        model, written = load(name)
        assert written.recipe["weights"]["method"] == method
        codes[method] = model.graph.initializers["up.weight_packed"].const_value.numpy()
    assert (codes["max"] != codes["gptq+mse"]).any()
    ran = run(*common, name, "--input", "x:float32:4x64", "--weights", "best")
    assert (ran.status, ran.json["error"]["code"]) == (2, "usage")


def test_export_for_people(run, out):
    ran = run("export", "w.pt", "--model", "cli_models:Net", "--input", "x:float32:4x64", "-o", out / "a.onnx")
    assert ran.status == 0
    lines = ran.out.splitlines()
    assert lines[0] == "Layers"
    assert lines[1].split() == ["layer", "kind", "shape", "precision", "reason"]
    assert lines[2].split() == ["up", "Linear", "128x64", "nvfp4"]
    assert "recipe w4a4-dynamic-token: 3 layers nvfp4, 1 layer float32" in lines
    assert any(line.startswith("inputs were random (seed 0)") for line in lines)
    assert lines[-1].endswith(f"next: nvfp4-trt build engine {out / 'a.onnx'}")
    assert not any(line.endswith(" ") for line in lines)
    assert [path.name for path in out.iterdir()] == ["a.onnx"]


def test_build_as_json(built):
    path, told = built
    assert told["fp4"] == {"requested": 3, "realized": 3}
    assert told["kernels"] > 3
    assert told["engine_bytes"] == path.stat().st_size
    floor = (128 * 64 + 96 * 128 + 64 * 128) * 9 / 16
    assert floor <= told["weight_bytes"] < floor * 1.2
    assert told["seconds"] > 0
    assert told["profile"] == {"x": [[1, 64], [4, 64], [16, 64]]}
    assert {layer["name"] for layer in told["layers"]} == {"up", "odd", "down"}
    assert all(layer["realized"] for layer in told["layers"])
    assert json.loads((path.parent / told["record"]).read_text())["engine"] == "net.engine"


def test_build_for_people_keeps_what_was_asked_for(run, out, exported):
    ran = run(
        "build", "engine", "net.onnx", "-o", out / "e.plan", "--lowered", out / "l.onnx", "--log", out / "log.txt",
        "--dim", "batch=1:2:8", "--target", "sm_120",
    )  # fmt: skip
    assert ran.status == 0, ran.err
    assert sorted(p.name for p in out.iterdir()) == ["e.plan", "e.plan.json", "l.onnx", "log.txt"]
    lines = {line.split("  ")[0]: line.split("  ")[-1].strip() for line in ran.out.splitlines()}
    assert lines["FP4 GEMMs"] == "3/3"
    assert lines["profile x"] == "1x64 / 2x64 / 8x64"
    assert "--onnx=" in lines["equivalent"]
    assert lines["files"] == f"{out / 'e.plan'} and {out / 'e.plan.json'}"


def test_inspect_an_engine(run, built):
    ran = run("inspect", "net.engine", "--json")
    assert ran.status == 0
    assert ran.json == {"kind": "engine", **built[1]}
    shown = run("inspect", "net.engine").out
    assert "FP4 GEMMs" in shown
    assert "row of the record" in shown


def test_inspect_a_portable_file(run, exported):
    told = run("inspect", "net.onnx", "--json").json
    assert told["kind"] == "onnx"
    assert [layer["name"] for layer in told["layers"]] == ["up", "odd", "down", "head"]
    assert told["source_sha256"] == exported[1]["source_sha256"]
    shown = run("inspect", "net.onnx").out
    assert "input x: float [batch, 64]" in shown
    assert "run-time, per token" in shown


def test_compare(run, exported):
    ran = run("compare", "net.onnx", "--reference", "w.pt", *FILL, "--json")
    assert ran.status == 0
    assert "error" not in ran.json
    assert [output["name"] for output in ran.json["outputs"]] == ["score", "features"]
    for output in ran.json["outputs"]:
        assert 8 < output["sqnr_db"] < 30
        assert 0.9 < output["cosine"] < 1
        assert output["max_abs_error"] > 0
    shown = run("compare", "net.onnx", "--reference", "w.pt", *FILL).out.splitlines()
    assert shown[0] == "net.onnx against w.pt, 1 batch"
    assert shown[2].split()[0] == "score"


@pytest.mark.parametrize(
    ("threshold", "said"),
    [
        (("--min-sqnr", "60"), "60"),
        (("--min-cosine", "0.99999"), "0.99999"),
        (("--max-abs-error", "1e-9"), "1e-09"),
    ],
)
def test_a_comparison_below_its_threshold(run, exported, threshold, said):
    ran = run("compare", "net.onnx", "--reference", "w.pt", *FILL, *threshold, "--json")
    assert ran.status == 1
    assert ran.json["error"]["code"] == "below-threshold"
    assert said in ran.json["error"]["message"]
    assert len(ran.json["outputs"]) == 2
    plain = run("compare", "net.onnx", "--reference", "w.pt", *FILL, *threshold)
    assert plain.status == 1
    assert "score" in plain.out
    assert plain.err.startswith("error[below-threshold]: ")


def test_compare_with_outputs_saved_before(run, exported, out):
    saved = ("--save-inputs", out / "i.json", "--save-outputs", out / "o.json")
    assert run("compare", "net.onnx", "--reference", "w.pt", *FILL, *saved).status == 0
    ran = run("compare", "net.onnx", "--reference", out / "o.json", "--inputs", out / "i.json", "--json")
    assert ran.status == 0
    assert len(ran.json["outputs"]) == 2
    without = run("compare", "net.onnx", "--reference", out / "o.json", "--json")
    assert (without.status, without.json["error"]["code"]) == (2, "inputs-missing")
    assert "--inputs" in without.json["error"]["hint"]


def test_pack(run, out):
    ran = run("pack", "big.safetensors", "-o", out / "p.safetensors", "--json")
    size = (out / "p.safetensors").stat().st_size
    told = ran.json
    assert (ran.status, told["weights"], told["copied"], told["bytes"]) == (0, ["fc.weight"], 1, size)
    again = run("pack", "big.safetensors", "-o", out / "q.safetensors", "--only", "f*", "--rule", "torchao")
    assert "1 weights packed, 1 tensors copied, 1.0 MiB → 0.1 MiB" in again.out


def test_lower(run, exported, out):
    ran = run("lower", "net.onnx", "-o", out / "l.onnx", "--json")
    assert ran.status == 0
    assert ran.json["gemms"] == 2
    assert ran.json["passes"]["merge-linears"] == 1
    assert ran.json["passes"]["fp4-weights"] == 2
    domains = {node.domain for node in onnx.load(out / "l.onnx").graph.node}
    assert "nvfp4" not in domains


def test_recipes(run):
    told = run("recipes", "--json").json
    assert told["default"] == "w4a4-dynamic-token"
    assert told["recipes"][0]["name"] == "w4a4-dynamic"
    shown = run("recipes").out
    assert all(recipe["name"] in shown for recipe in told["recipes"])


def test_a_recipe_from_a_file_with_patterns_beside_it(run, out, assets):
    (out / "r.yaml").write_text("base: w4a16\nexclude: [odd]\n")
    ran = run(
        "export", "w.pt", *FILL, "--recipe", out / "r.yaml", "--exclude", "up", "-o", out / "a.onnx", "--json"
    )
    assert ran.status == 0
    assert {x["name"]: x["precision"] for x in ran.json["layers"]} == {
        "up": "float32",
        "odd": "float32",
        "down": "nvfp4-weight-only",
        "head": "float32",
    }
    assert ran.json["recipe"] == "r"


def test_the_hint_of_an_untrusted_file_works_as_it_stands(run, out):
    """The command in the hint is run word for word."""
    import shlex

    refused = run("export", "m.pt", "--inputs", "x.npz", "-o", out / "m.onnx", "--json")
    assert (refused.status, refused.json["error"]["code"]) == (2, "untrusted-code")
    assert "cli_models.Net" in refused.json["error"]["message"]
    assert list(out.iterdir()) == []
    hint = refused.json["error"]["hint"]
    command = hint[hint.index("nvfp4-trt ") : hint.index(";")]
    accepted = run(*shlex.split(command)[1:])
    assert accepted.status == 0
    assert (out / "m.onnx").is_file()


def test_the_version(run):
    ran = run("--version")
    assert ran.status == 0
    assert ran.out.startswith("nvfp4-trt, version ")
