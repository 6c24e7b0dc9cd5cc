import onnx_ir as ir
import pytest

from nvfp4_trt.layers import NVFP4, WEIGHT_ONLY, Layer
from nvfp4_trt.portable import find_sites, interruptions, is_ours, load

DYNAMIC = "w4a4-dynamic-token"


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("rows", ["0", "2"]),
        ("bare", [""]),
        ("heads", ["key", "out", "pooler", "query", "value"]),
        ("gpt2", ["c_attn", "c_fc", "c_out", "c_proj", "lm_head"]),
        ("mlp", ["fc1", "fc3"]),
    ],
)
def test_every_quantized_layer_is_one_site(portable, name, layers):
    model, _ = load(portable(name).path)
    assert sorted(site.layer for site in find_sites(model.graph)) == layers


@pytest.mark.parametrize(
    ("recipe", "scale", "quantized"),
    [
        ("w4a4-dynamic", "PerTensorScale", True),
        (DYNAMIC, "PerTokenScale", True),
        ("w4a4-static", None, True),
        ("w4a4-single-level", None, True),
        ("w4a16", None, False),
    ],
)
def test_what_a_site_holds(portable, recipe, scale, quantized):
    model, _ = load(portable("heads", recipe).path)
    for site in find_sites(model.graph):
        assert site.gemm.op_type in {"MatMul", "Gemm"}
        assert is_ours(site.weight)
        assert (site.activation is not None) == (site.quantize is not None) == quantized
        assert (site.scale.op_type if site.scale else None) == scale


def test_layers_on_one_input_share_one_quantizer(portable):
    model, _ = load(portable("heads").path)
    quantizers = {site.layer: site.quantize for site in find_sites(model.graph)}
    assert quantizers["query"] is quantizers["key"] is quantizers["value"]
    assert len(set(quantizers.values())) == 3


def test_is_ours():
    assert is_ours(ir.node("Quantize", [], domain="nvfp4"))
    assert not is_ours(ir.node("Quantize", []))
    assert not is_ours(None)
    assert not is_ours(ir.node("Quantize", [], domain="nvfp4"), {"Dequantize"})


def test_nothing_interrupts_an_exported_model(portable):
    for recipe in (DYNAMIC, "w4a16"):
        model, metadata = load(portable("heads", recipe).path)
        assert interruptions(model, metadata.layers) == {}


def between(model, value):
    """Put a Neg between a value and all that uses it."""
    users = list(value.uses())
    node = ir.node("Neg", [value], name="minus")
    node.outputs[0].name, node.outputs[0].type, node.outputs[0].shape = "minus", value.type, value.shape
    model.graph.insert_after(value.producer(), node)
    for user, index in users:
        user.replace_input_with(index, node.outputs[0])


def test_what_stands_behind_a_weight_is_named(portable):
    model, metadata = load(portable("rows").path)
    between(model, find_sites(model.graph)[0].weight.outputs[0])
    (clause,) = interruptions(model, metadata.layers).values()
    assert clause == "Neg 'minus', not a MatMul, reads its dequantized weight"


def test_what_stands_in_front_of_a_matmul_is_named(portable):
    model, metadata = load(portable("rows").path)
    between(model, find_sites(model.graph)[1].activation.outputs[0])
    assert interruptions(model, metadata.layers) == {
        "2": "its MatMul reads Neg 'minus', not a dequantized activation"
    }


def test_a_matmul_on_the_models_input(portable):
    model, metadata = load(portable("rows").path)
    site = find_sites(model.graph)[0]
    site.gemm.replace_input_with(0, model.graph.inputs[0])
    assert "reads the model's input" in interruptions(model, metadata.layers)["0"]


def test_a_layer_that_is_not_in_the_graph(portable):
    model, _ = load(portable("rows").path)
    layers = [Layer(n, "Linear", (8, 32), p) for n, p in (("a", NVFP4), ("b", WEIGHT_ONLY), ("c", "float32"))]
    assert interruptions(model, layers) == dict.fromkeys("ab", "its weight is not in the graph")
