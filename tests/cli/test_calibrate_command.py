"""`nvfp4-trt calibrate` and `export --calibration`."""

import json

import onnx
import pytest

from nvfp4_trt import Calibration

NET = ("--model", "cli_models:Net", "--inputs", "x.npz")


@pytest.fixture(scope="module")
def scales(assets):
    """A calibration of the net, and a recipe beside it."""
    from nvfp4_trt.cli.main import main

    (assets / "headroom.yaml").write_text("base: w4a4-static\nactivations: {observer: headroom}\n")
    with pytest.raises(SystemExit) as ended:
        main(["calibrate", "w.pt", *NET, "--recipe", "headroom.yaml", "-o", "scales.json"])
    assert ended.value.code == 0
    return assets / "scales.json"


def test_for_people(run, out):
    ran = run("calibrate", "w.pt", *NET, "-o", out / "s.safetensors")
    assert ran.status == 0
    lines = ran.out.splitlines()
    assert lines[0] == "Static scales"
    assert [line.split()[0] for line in lines[2:5]] == ["up", "odd", "down"]
    assert lines[-1].startswith(f"wrote {out / 's.safetensors'}: 3 layers, observer max; next: nvfp4-trt export")
    assert [layer.name for layer in Calibration.load(out / "s.safetensors").layers] == ["up", "odd", "down"]


def test_as_json_and_from_a_state(run, out):
    arguments = ("calibrate", "w.pt", *NET, "--state", out / "state", "-o", out / "s.json", "--json")
    told = run(*arguments).json
    assert told["calibration"] == str(out / "s.json")
    assert told["source_kind"] == "state-dict"
    assert told["recipe"]["activations"]["observer"] == "max"
    assert {key: told[key] for key in ("source_sha256", "layers")} == {
        key: json.loads((out / "s.json").read_text())[key] for key in ("source_sha256", "layers")
    }
    before = (out / "s.json").read_bytes()
    assert run(*arguments).json == told
    assert (out / "s.json").read_bytes() == before


def test_export_takes_it(run, out, scales):
    told = run("export", "w.pt", *NET, "--calibration", scales, "-o", out / "a.onnx", "--json").json
    assert told["recipe"] == "headroom"
    entries = {entry.key: entry.value for entry in onnx.load(out / "a.onnx").metadata_props}
    assert json.loads(entries["nvfp4.recipe"])["activations"]["ratio"] == 16384.0
    shown = run("inspect", out / "a.onnx", "--json").json
    scale = Calibration.load(scales).layers[0].amax / 2688
    assert float(f"{scale:.3g}") == pytest.approx(float(shown["layers"][0]["activation_scale"]), rel=1e-2)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("calibrate", "w.pt", *NET, "--recipe", "w4a16"), "recipe-invalid", "scales activations none"),
        (("calibrate", "w.pt", "--model", "cli_models:Net", "--inputs", "nan.npz"), "nonfinite-calibration", "up"),
        (("calibrate", "w.pt", *NET, "--only", "left"), "pattern-no-match", "--only 'left'"),
        (("calibrate", "w.pt", *NET, "--state", "x.npz"), "calibration-invalid", "x.npz is not the state"),
        (("export", "w.pt", *NET, "--calibration", "nowhere.json"), "file-missing", "nowhere.json"),
        (("export", "w.pt", *NET, "--calibration", "x.npz"), "calibration-invalid", "x.npz is not a calibration"),
        (
            ("export", "w.pt", *NET, "--calibration", "scales.json", "--exclude", "odd"),
            "calibration-mismatch",
            "odd",
        ),
        (
            ("export", "w.pt", *NET, "--calibration", "scales.json", "--recipe", "w4a4-static"),
            "calibration-mismatch",
            "max",
        ),
        (("export", "m.pt", "--trust-pickle", "--inputs", "x.npz", "--calibration", "scales.json"), None, ""),
    ],
)
def test_failures(fails, run, out, scales, arguments, code, said):
    if code is None:  # a source of another kind: whether it is the same model cannot be told
        assert run(*arguments, "-o", out / "a.onnx").status == 0
        return
    fails((*arguments, "-o", "{out}/a.json"), status=2, code=code, said=said)


def test_a_model_with_other_weights(fails, run, out, scales):
    import torch

    weights = torch.load(scales.with_name("w.pt"))
    torch.save({name: tensor * 2 for name, tensor in weights.items()}, scales.with_name("w2.pt"))
    arguments = ("export", "w2.pt", *NET, "--calibration", scales, "-o", "{out}/a.onnx")
    fails(arguments, status=2, code="calibration-mismatch", said="is of another model")
