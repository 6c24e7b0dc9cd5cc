"""The audit, on engines that lost FP4 for real."""

import json

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

import nvfp4_trt
from nvfp4_trt.auditing import FLOOR, Audit, LayerAudit, PluginGemms, audit_engine, parse_record
from nvfp4_trt.building import build_engine
from nvfp4_trt.errors import Fp4LostError, PatternMatchesNothingError
from nvfp4_trt.layers import NVFP4, WEIGHT_ONLY, Layer
from nvfp4_trt.portable import find_sites, load, save

pytestmark = pytest.mark.long
RTX = "tensorrt_rtx"


def names_in(folder):
    return sorted(path.name for path in folder.rglob("*"))


def add_zero_behind(model, node):
    """Put `+ 0` between a node and all that uses it."""
    graph, value = model.graph, node.outputs[0]
    zero = ir.tensor(np.zeros((), np.float32), name="zero")
    graph.register_initializer(
        ir.Value(name="zero", shape=ir.Shape([]), type=ir.TensorType(zero.dtype), const_value=zero)
    )
    users = list(value.uses())
    added = ir.node("Add", [value, graph.initializers["zero"]], name="nothing")
    out = added.outputs[0]
    out.name, out.type, out.shape = "nothing", value.type, value.shape
    graph.insert_after(node, added)
    for user, index in users:
        user.replace_input_with(index, out)


EDITS = {"weight": lambda site: site.weight, "activation": lambda site: site.activation}


@pytest.fixture(params=EDITS)
def broken(request, portable, tmp_path):
    """A portable file whose second layer has an Add between a Dequantize and its MatMul."""
    model, _ = load(portable("rows").path)
    site = next(site for site in find_sites(model.graph) if site.layer == "2")
    add_zero_behind(model, EDITS[request.param](site))
    path = tmp_path / "broken.onnx"
    save(model, path)
    return path


def test_lost_fp4_fails_the_build_and_leaves_nothing(broken, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(Fp4LostError) as caught:
        build_engine(broken, tmp_path / "out" / "model.engine", backend=RTX, optimize="off")
    error = caught.value
    assert (error.code, error.exit_status) == ("fp4-lost", 1)
    assert "the GEMM of 2 is not FP4" in error.message
    assert "Add 'nothing'" in error.message
    assert "--allow-higher-precision '2'" in error.hint
    assert names_in(tmp_path / "out") == []


def test_a_shortfall_is_accepted_by_name_and_recorded(broken, tmp_path):
    artifact = build_engine(broken, tmp_path / "model.engine", backend=RTX, optimize="off", allow=["2"])
    first, second = artifact.audit.layers
    assert first.realized
    assert not first.accepted
    assert not second.realized
    assert second.accepted
    assert "Add 'nothing'" in second.reason
    assert artifact.audit.counts() == (2, 1)
    assert names_in(tmp_path) == ["broken.onnx", "model.engine", "model.engine.json"]


def test_a_pattern_that_matches_no_layer_is_an_error(portable, tmp_path):
    with pytest.raises(PatternMatchesNothingError, match="--allow-higher-precision 'encoder"):
        build_engine(
            portable("rows").path, tmp_path / "model.engine", backend=RTX, optimize="off", allow=["encoder.*"]
        )
    assert names_in(tmp_path) == []


def test_accepting_what_is_realized_changes_nothing(portable, tmp_path):
    artifact = build_engine(
        portable("rows").path, tmp_path / "model.engine", backend=RTX, optimize="off", allow=["*"]
    )
    assert artifact.audit.counts() == (2, 2)
    assert not any(layer.accepted for layer in artifact.audit.layers)


@pytest.mark.parametrize(("recipe", "kind"), [("w4a16", WEIGHT_ONLY), ("w4a4-dynamic-token", NVFP4)])
def test_layers_bytes_and_scales(portable, tmp_path, recipe, kind):
    audit = build_engine(
        portable("heads", recipe).path, tmp_path / "model.engine", backend=RTX, optimize="off"
    ).audit
    assert {layer.name for layer in audit.layers} == {"query", "key", "value", "out", "pooler"}
    assert audit.counts(kind) == (5, 5)
    assert all(layer.row for layer in audit.layers)
    assert audit.floor_bytes == int(FLOOR * (4 * 64 * 64 + 48 * 64))
    # Block scales come in tiles of 128 rows and 4 columns, so 64 rows of them take twice their bytes.
    assert audit.floor_bytes <= audit.weight_bytes <= audit.floor_bytes * 1.25
    assert all(bool(layer.scale_row) == (kind == NVFP4) for layer in audit.layers)


def test_a_model_that_is_one_linear_layer(portable, tmp_path):
    """Its layer's name is empty."""
    audit = build_engine(portable("bare").path, tmp_path / "model.engine", backend=RTX, optimize="off").audit
    assert [(layer.name, layer.realized) for layer in audit.layers] == [("", True)]


def layer(name, shape=(64, 64), precision=NVFP4):
    return Layer(name, "Linear", shape, precision)


@pytest.mark.parametrize(
    ("asked", "reason"),
    [(layer("a", (64, 16)), "K = 16 < 32"), (layer("a", (1, 64)), "N = 1"), (layer("a"), "no row")],
)
def test_known_reasons_without_a_row(asked, reason):
    audit = audit_engine([], [asked], {"a/MatMul": ("a",)}, {}, {})
    assert reason in audit.layers[0].reason
    with pytest.raises(Fp4LostError, match=reason):
        audit.check()


def test_layers_that_were_not_asked_for_are_not_audited():
    audit = audit_engine(
        [], [layer("a", precision="float32"), Layer("e", "Embedding", (9, 64), NVFP4)], {}, {}, {}
    )
    assert audit.layers == ()
    audit.check()


def test_several_losses_are_counted_and_named():
    lost = tuple(
        LayerAudit(name=n, shape=(64, 64), requested=NVFP4, realized=False, reason="why") for n in "abcde"
    )
    audit = Audit(layers=lost, kernels=0, weight_bytes=0, floor_bytes=0)
    with pytest.raises(Fp4LostError, match=r"of a is not FP4.*why \(and 4 more: b, c, d\)"):
        audit.check()


def test_the_scales_of_an_odd_n_are_counted_too(tmp_path):
    """Its codes are padded in a row of their own, and reach the GEMM as an input."""
    model = nn.Sequential(nn.Linear(256, 333), nn.ReLU()).eval()
    made = nvfp4_trt.export(
        model, tmp_path / "odd.onnx", inputs=[{"input": torch.randn(8, 256)}], dynamic=["batch"]
    )
    audit = nvfp4_trt.build(made, tmp_path / "odd.engine", backend="tensorrt_rtx", optimize="off").audit
    assert audit.counts() == (1, 1)
    assert audit.floor_bytes <= audit.weight_bytes < 1.3 * audit.floor_bytes


def plugin_layer(name, kind="PluginV3", metadata=True):
    """Return a plugin's layer as the engine inspector might give it: an Nvfp4Gemm of M = 8, N = 48, K = 64."""
    shapes = {"a": (8, 32), "a_scales": (512,), "alpha": (8, 1), "b": (48, 32), "b_scales": (512,), "beta": (48,)}
    kinds = ["Int8", "Int8", "Float", "Int8", "Int8", "Float"]
    return {
        "Name": name,
        "LayerType": kind,
        "Inputs": [
            {"Name": f"{name}.{n}", "Dimensions": list(d), "Format/Datatype": k}
            for (n, d), k in zip(shapes.items(), kinds, strict=True)
        ],
        "Outputs": [{"Name": f"{name}.y", "Dimensions": [8, 48], "Format/Datatype": "Half"}],
        "Metadata": f"[ONNX Layer: {name}]" if metadata else "",
    }


def plugin_record(**options):
    """Return an inspector's record with one plugin GEMM behind a plugin quantizer. Written by hand: engines with
    plugins need full TensorRT, and nothing here has run on it."""
    quantize = {"Name": "q+k/Nvfp4Quantize", "LayerType": "PluginV3", "Inputs": [], "Outputs": []}
    return parse_record(json.dumps({"Layers": [quantize, plugin_layer("q+k/Nvfp4Gemm", **options)]}))


NODES = {"q+k/Nvfp4Gemm": ("q", "k")}
SCALES = {"q": "q+k/Nvfp4Quantize", "k": "q+k/Nvfp4Quantize"}
BOTH = [layer("q", (16, 64)), layer("k", (32, 64))]


@pytest.mark.parametrize("metadata", [True, False])
def test_a_plugins_gemm_is_fp4_by_the_kernel_packs_record(metadata):
    """One node for two merged layers; by the layer's name where the record has no metadata."""
    plugin = PluginGemms(nodes=NODES, opcode="OMMA")
    audit = audit_engine(plugin_record(metadata=metadata), BOTH, {}, SCALES, {}, plugin=plugin)
    audit.check()
    assert audit.counts() == (2, 2)
    assert {layer.row for layer in audit.layers} == {"q+k/Nvfp4Gemm"}
    assert {layer.scale_row for layer in audit.layers} == {"q+k/Nvfp4Quantize"}
    assert audit.kernels == 2
    assert audit.weight_bytes == 48 * 32 + 512  # codes, and a tile of scales
    assert audit.floor_bytes == int(FLOOR * 48 * 64)


@pytest.mark.parametrize(
    ("plugin", "told"),
    [
        (
            PluginGemms(nodes=NODES, opcode="", reason="gemm.cubin holds no FP4 instruction"),
            "gemm.cubin holds no FP4",
        ),
        (PluginGemms(nodes={}, opcode="OMMA"), "no row of the layer record computes it"),
        (None, "no row of the layer record computes it"),
    ],
)
def test_a_plugins_gemm_that_nothing_vouches_for(plugin, told):
    audit = audit_engine(plugin_record(), BOTH, {}, SCALES, {}, plugin=plugin)
    assert audit.counts() == (2, 0)
    with pytest.raises(Fp4LostError, match=f"the GEMM of q is not FP4.*{told}"):
        audit.check()


def test_another_plugin_in_the_place_of_a_gemm_is_no_fp4():
    plugin = PluginGemms(nodes=NODES, opcode="OMMA")
    audit = audit_engine(plugin_record(), [layer("q")], {"q+k/Nvfp4Quantize": ("q",)}, {}, {}, plugin=plugin)
    assert audit.counts() == (1, 0)
    assert "plugin layer" in audit.layers[0].reason


def test_a_layer_that_the_engine_lost():
    plugin = PluginGemms(nodes={**NODES, "v/Nvfp4Gemm": ("v",)}, opcode="OMMA")
    audit = audit_engine(plugin_record(), [*BOTH, layer("v")], {}, SCALES, {}, plugin=plugin)
    assert audit.counts() == (3, 2)
    assert audit.layers[2].reason == "no row of the layer record computes it"


def test_plugin_and_native_gemms_in_one_engine():
    native = {
        "Name": "fc/MatMul_0",
        "LayerType": "gemm",
        "Inputs": [{"Name": "codes", "Dimensions": [8, 64], "Format/Datatype": "FP4E2M1"}],
        "Constants": [{"Name": "w", "Dimensions": [64, 64], "Format/Datatype": "FP4E2M1"}],
        "Metadata": "[ONNX Layer: fc/MatMul]",
    }
    record = json.dumps({"Layers": [plugin_layer("q+k/Nvfp4Gemm"), native]})
    audit = audit_engine(
        parse_record(record),
        [*BOTH, layer("fc")],
        {"fc/MatMul": ("fc",)},
        {},
        {},
        plugin=PluginGemms(nodes=NODES, opcode="OMMA"),
    )
    audit.check()
    assert audit.counts() == (3, 3)
