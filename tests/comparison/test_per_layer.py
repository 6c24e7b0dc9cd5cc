"""`nvfp4-trt compare --per-layer`: what layers add and inherit, and faults that are planted and found."""

import copy
import json

import jsonschema
import numpy as np
import onnx
import pytest
import torch
from layered import FAULTS, LAYERS, PARTS, batches, make, swap_nibbles
from onnx import numpy_helper
from safetensors.torch import save_file

import nvfp4_trt
from nvfp4_trt.cli.main import main
from nvfp4_trt.errors import BackendsDisagreeError, BelowThresholdError, InputsMismatchError, WrongKindError
from nvfp4_trt.portable import load, save
from nvfp4_trt.printing.schemas import schema_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with the float weights, two exported files, one with its weights beside it, and scales."""
    folder = tmp_path_factory.mktemp("layered")
    module, given = make().eval(), list(batches())
    save_file({name: tensor.clone() for name, tensor in module.state_dict().items()}, folder / "w.safetensors")
    common = {"inputs": given, "dynamic": ["batch,sequence"]}
    nvfp4_trt.export(module, folder / "model.onnx", **common)
    save(load(folder / "model.onnx")[0], folder / "beside.onnx", limit=0)
    nvfp4_trt.export(module, folder / "static.onnx", recipe="w4a4-static", **common)
    return folder


@pytest.fixture
def compare(folder, capfd):
    """Return the function that runs the command line, and returns its status and what it printed as JSON."""

    def compare(file, *arguments):
        given = ["compare", str(file), "--reference", str(folder / "w.safetensors"), "--model", "layered:make"]
        with pytest.raises(SystemExit) as caught:
            main([*given, "--inputs", "layered:batches", "--per-layer", *map(str, arguments), "--json"])
        told = json.loads(capfd.readouterr().out)
        jsonschema.validate(told, schema_of("compare"))
        return caught.value.code, told

    return compare


def test_sound_models_agree_everywhere(folder, compare):
    status, told = compare(folder / "model.onnx")
    assert status == 0, told
    found = told["per_layer"]
    assert (found["disagreement"], found["nonfinite"], found["bound_db"]) == (None, [], 90.0)
    assert [x["name"] for x in sorted(found["layers"], key=lambda x: x["position"])] == LAYERS
    for layer in found["layers"]:
        assert {"torch", "onnxruntime"} == set(layer["backends"])
        near = layer["backends"]["onnxruntime"]["agreement"]
        assert min(near["layer"]["sqnr_db"], near["between"]["sqnr_db"]) > 110
        assert near["stored"] == []
        for backend in layer["backends"].values():
            assert 12 < backend["own"]["sqnr_db"] < 30
            assert backend["own"]["cosine"] > 0.95
    worst = [min(b["own"]["sqnr_db"] for b in layer["backends"].values()) for layer in found["layers"]]
    assert worst == sorted(worst)


def test_what_people_see(folder, capfd):
    given = ["compare", str(folder / "model.onnx"), "--reference", str(folder / "w.safetensors")]
    chosen = ["--per-layer", "--layer", "t*", "--layer", "shared"]
    with pytest.raises(SystemExit):
        main([*given, "--model", "layered:make", "--inputs", "layered:batches", *chosen])
    lines = capfd.readouterr().out.splitlines()
    start = lines.index("Layers against the float model, SQNR in dB, the worst first")
    assert lines[start + 1].split()[:5] == ["layer", "adds,", "torch", "adds,", "file"]
    assert sorted(line.split()[0] for line in lines[start + 2 : start + 6]) == sorted(LAYERS[3:7])
    assert lines[-1].startswith("the quantized torch model and the file agree at every layer: ")


def test_what_is_added_and_inherited_is_what_torch_says(folder):
    module, given = make().eval(), list(batches(((2, 7),)))
    quantized = nvfp4_trt.quantize(module, inputs=given)
    found = nvfp4_trt.compare(
        folder / "model.onnx", module, inputs=given, per_layer=True, layers=["v", "down"], quantized=quantized
    ).layers
    assert sorted(layer.name for layer in found.layers) == ["down", "v"]
    assert all(layer.backends["onnxruntime"].agreement.between is None for layer in found.layers)
    found.check()
    down = next(layer.backends["torch"] for layer in found.layers if layer.name == "down")
    with torch.no_grad():
        expected, got = module(**given[0]), quantized(**given[0])
        own = quantized.module.down(expected["hidden"])
        inherited = module.down(got["hidden"])
    for metrics, value in ((down.own, own), (down.inherited, inherited), (down.output, got["y"])):
        noise = (value.double() - expected["y"]).square().sum()
        sqnr = 10 * torch.log10(expected["y"].double().square().sum() / noise)
        assert metrics.sqnr_db == pytest.approx(float(sqnr), abs=1e-3)
        assert metrics.max_abs_error == pytest.approx(float((value - expected["y"]).abs().max()), rel=1e-5)
    value = next(layer.backends["torch"] for layer in found.layers if layer.name == "v")
    assert value.inherited.sqnr_db == 300
    assert value.own.sqnr_db == value.output.sqnr_db


def edit_module(folder, out, layer, fault):
    """Plant a fault in the torch model's buffers; return the arguments that give it."""
    quantized = nvfp4_trt.quantize(make().eval(), inputs=list(batches()))
    module = quantized.module.get_submodule(layer)
    fault({name: _view(getattr(module, name)) for name in PARTS})
    nvfp4_trt.save(quantized, out / "quantized.safetensors")
    return folder / "model.onnx", "--quantized", out / "quantized.safetensors"


def _view(tensor):
    return (tensor if tensor.dtype == torch.float32 else tensor.view(torch.uint8)).numpy()


def edit_file(folder, out, layer, fault):
    """Plant a fault in the initializers of an ONNX file."""
    proto = onnx.load(folder / "model.onnx")
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    arrays = {}
    for name, dtype in PARTS.items():
        tensor = tensors[f"{layer}.{name}"]
        arrays[name] = np.frombuffer(numpy_helper.to_array(tensor).tobytes(), dtype).reshape(tensor.dims).copy()
    fault(arrays)
    for name, array in arrays.items():
        tensors[f"{layer}.{name}"].raw_data = array.tobytes()
    onnx.save(proto, out / "spoiled.onnx")
    return (out / "spoiled.onnx",)


@pytest.mark.parametrize(("layer", "fault"), zip(["k", "v", "down"], FAULTS, strict=True))
@pytest.mark.parametrize("place", [edit_module, edit_file])
def test_a_planted_fault_is_found_by_name(folder, compare, tmp_path, place, layer, fault):
    status, told = compare(*place(folder, tmp_path, layer, fault))
    assert (status, told["error"]["code"]) == (1, "backends-disagree")
    assert f"part first in {layer}:" in told["error"]["message"]
    first = told["per_layer"]["disagreement"]
    assert (first["layer"], first["where"]) == (layer, "layer")
    assert first["sqnr_db"] < 60
    assert len(first["stored"]) == 1
    near = {x["name"]: x["backends"]["onnxruntime"]["agreement"]["layer"] for x in told["per_layer"]["layers"]}
    assert [name for name, metrics in near.items() if metrics["sqnr_db"] < 90] == [layer]


def test_a_byte_of_the_weights_beside_a_file(folder, compare, tmp_path):
    (spoiled,) = edit_file(folder, tmp_path, "down", swap_nibbles)
    save(load(spoiled)[0], tmp_path / "beside.onnx", limit=0)
    sound, data = ((path / "beside.onnx.data").read_bytes() for path in (folder, tmp_path))
    assert sum(a != b for a, b in zip(sound, data, strict=True)) == 1
    (tmp_path / "beside.onnx").write_bytes((folder / "beside.onnx").read_bytes())
    status, told = compare(tmp_path / "beside.onnx")
    first = told["per_layer"]["disagreement"]
    assert (status, first["layer"], first["stored"]) == (1, "down", ["weight_packed: 1 of 1024 bytes"])


def test_static_scales_are_calibrated_on_the_inputs(folder, compare):
    status, told = compare(folder / "static.onnx")
    assert (status, told["per_layer"]["other_inputs"]) == (0, False)


def other_batches():
    return [{name: tensor[:1] for name, tensor in batch.items()} for batch in batches()]


def test_other_inputs_than_those_of_the_export_are_said_to_be_the_reason(folder, tmp_path):
    """Static scales of other inputs differ, and no fault is there."""
    given, module = other_batches(), make().eval()
    found = nvfp4_trt.compare(folder / "static.onnx", module, inputs=given, per_layer=True).layers
    assert found.other_inputs
    with pytest.raises(BackendsDisagreeError, match="no fault need be there") as caught:
        found.check()
    assert "--quantized" in caught.value.hint

    # A calibration goes with any inputs, and another one is told apart.
    known = nvfp4_trt.calibrate(module, inputs=list(batches()), recipe="w4a4-static")
    nvfp4_trt.export(
        module, tmp_path / "m.onnx", inputs=list(batches()), calibration=known, dynamic=["batch,sequence"]
    )
    for calibration, other in ((known, False), (None, True)):
        found = nvfp4_trt.compare(
            tmp_path / "m.onnx", module, inputs=given, per_layer=True, calibration=calibration
        ).layers
        assert (found.other_inputs, found.disagreement is not None) == (other, other)


def test_a_recipe_that_looks_at_nothing_goes_with_any_inputs(folder):
    found = nvfp4_trt.compare(folder / "model.onnx", make().eval(), inputs=other_batches(), per_layer=True).layers
    assert not found.other_inputs
    found.check()


@pytest.mark.parametrize("layer", ["shared", "down"])
def test_a_wrong_scale_of_an_activation(folder, compare, tmp_path, layer):
    proto = onnx.load(folder / "static.onnx")
    tensor = next(t for t in proto.graph.initializer if t.name == f"{layer}.input_quantizer.scale")
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(4), tensor.name))
    onnx.save(proto, tmp_path / "spoiled.onnx")
    status, told = compare(tmp_path / "spoiled.onnx")
    first = told["per_layer"]["disagreement"]
    assert (status, first["layer"], first["where"]) == (1, layer, "layer")
    assert "input_quantizer.scale" in first["stored"][0]


def test_a_fault_between_layers(folder, compare, tmp_path):
    proto = onnx.load(folder / "model.onnx")
    node = next(node for node in proto.graph.node if node.op_type == "Tanh")
    node.op_type = "Softsign"
    onnx.save(proto, tmp_path / "spoiled.onnx")
    status, told = compare(tmp_path / "spoiled.onnx")
    first = told["per_layer"]["disagreement"]
    assert (status, first["layer"], first["where"]) == (1, "twin_b", "between")
    assert "part first in front of twin_b:" in told["error"]["message"]


def test_a_fault_behind_all_layers(folder, tmp_path):
    proto = onnx.load(folder / "model.onnx")
    last = next(node for node in proto.graph.node if "hidden" in node.output)
    last.op_type = "Add"
    onnx.save(proto, tmp_path / "spoiled.onnx")
    found = nvfp4_trt.compare(tmp_path / "spoiled.onnx", make(), inputs=list(batches()), per_layer=True).layers
    # What the last layer reads is that output too, and comes first.
    assert (found.disagreement.layer, found.disagreement.where) == ("down", "between")
    with pytest.raises(BackendsDisagreeError, match="in front of down"):
        found.check()


def test_where_nan_arose(folder):
    module = make().eval()
    module.shared.bias.data[3] = float("nan")
    quantized = nvfp4_trt.quantize(module, inputs=list(batches()))
    with pytest.raises(BelowThresholdError, match="reference: NaN arose first in the layer shared") as caught:
        nvfp4_trt.compare(
            folder / "model.onnx", module, inputs=list(batches()), per_layer=True, quantized=quantized
        )
    assert "torch: NaN arose first in the layer shared" in caught.value.message


def test_other_layers_are_named(folder):
    model, given = folder / "model.onnx", {"inputs": list(batches()), "per_layer": True}
    without = nvfp4_trt.quantize(make().eval(), exclude=["twin_b"])
    with pytest.raises(InputsMismatchError, match="the quantized layer twin_b is not in the model"):
        nvfp4_trt.compare(model, make(), quantized=without, **given)
    other = make()
    other.down = torch.nn.Linear(64, 48)
    with pytest.raises(InputsMismatchError, match=r"down is \[32, 64\] in .* and \[48, 64\] in the model"):
        nvfp4_trt.compare(model, make(), quantized=nvfp4_trt.quantize(other.eval()), **given)


def test_options_without_the_switch(folder, compare):
    with pytest.raises(WrongKindError, match="are of --per-layer"):
        nvfp4_trt.compare(folder / "model.onnx", make(), inputs=list(batches()), layers=["q"])
    status, told = compare(folder / "model.onnx", "--layer", "nothing")
    assert (status, told["error"]["code"]) == (2, "pattern-no-match")


def test_the_models_stay_as_they_were(folder):
    module = make()
    before = copy.deepcopy(module)
    nvfp4_trt.compare(folder / "model.onnx", module, inputs=list(batches()), per_layer=True)
    assert str(module) == str(before)
    assert all(not child._forward_hooks and not child._forward_pre_hooks for child in module.modules())
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), before.parameters(), strict=True))


@pytest.fixture(scope="module")
def lowered(folder):
    """Return a lowered file whose outputs have the taps."""
    nvfp4_trt.compare(
        folder / "model.onnx",
        make(),
        inputs=list(batches()),
        per_layer=True,
        save_tapped=folder / "tapped.onnx",
    )
    with pytest.raises(SystemExit) as caught:
        main(["lower", str(folder / "tapped.onnx"), "-o", str(folder / "tapped.trt.onnx"), "--json"])
    assert caught.value.code == 0
    return folder / "tapped.trt.onnx"


def test_a_lowered_file_is_compared_too(folder, lowered, compare):
    status, told = compare(folder / "model.onnx", "--lowered", lowered)
    assert status == 0, told
    for layer in told["per_layer"]["layers"]:
        found = layer["backends"]["lowered"]
        assert found["own"] is None
        assert found["agreement"]["between"] is None
        assert found["agreement"]["layer"]["sqnr_db"] > 110
        assert found["output"]["sqnr_db"] == pytest.approx(
            layer["backends"]["torch"]["output"]["sqnr_db"], abs=0.01
        )


@pytest.mark.parametrize(("layer", "fault"), zip(["shared", "down", "down"], FAULTS, strict=True))
def test_a_fault_in_a_lowered_graph(folder, lowered, compare, tmp_path, layer, fault):
    proto = onnx.load(lowered)
    found = {tensor.name: tensor for tensor in proto.graph.initializer}
    tensors = {name: found[f"{layer}.{name.removesuffix('_packed')}"] for name in PARTS}
    rows = {name: [tensor.dims[0], -1] if tensor.dims else [] for name, tensor in tensors.items()}
    arrays = {
        name: np.frombuffer(tensor.raw_data, PARTS[name]).reshape(rows[name]).copy()
        for name, tensor in tensors.items()
    }
    fault(arrays)
    for name, array in arrays.items():
        tensors[name].raw_data = array.tobytes()
    onnx.save(proto, tmp_path / "spoiled.trt.onnx")
    status, told = compare(folder / "model.onnx", "--lowered", tmp_path / "spoiled.trt.onnx")
    first = told["per_layer"]["disagreement"]
    assert (status, first["backend"], first["layer"], first["where"]) == (1, "lowered", layer, "layer")
    assert f"the quantized torch model and the lowered file part first in {layer}:" in told["error"]["message"]


def test_files_without_taps_and_engines_without_a_gpu(folder, compare, monkeypatch):
    status, told = compare(folder / "model.onnx", "--lowered", folder / "model.onnx")
    assert (status, told["error"]["code"]) == (2, "inputs-mismatch")
    assert "the lowered has no output q:input" in told["error"]["message"]
    monkeypatch.setenv("PATH", "/nonexistent")
    status, told = compare(folder / "model.onnx", "--engine", folder / "w.safetensors")
    assert (status, told["error"]["code"]) == (3, "gpu-missing")
