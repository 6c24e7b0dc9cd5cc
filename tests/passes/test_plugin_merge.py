"""`plugin-merge`: linears that share an activation become one GEMM, and nothing changes."""

import numpy as np
import pytest
from plugin_sides import gemms, on_onnxruntime, until

from nvfp4_trt.passes import PluginBodies, PluginLinears, PluginMerge
from nvfp4_trt.passes.graph import array_of
from nvfp4_trt.passes.plugin_nodes import layers_of
from nvfp4_trt.portable import find_sites, unswizzle_bytes


def around_merge(exported):
    apart, merged = (until(PluginMerge, exported.path) for _ in range(2))
    changes = PluginMerge().run(merged)
    runs = []
    for model in (apart, merged):
        PluginBodies().run(model)
        runs.append(on_onnxruntime(model, exported.feeds))
    return merged, changes, runs


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", ["heads", "llama"])
def test_the_result_keeps_its_bits(portable, name, dtype):
    _, changes, (before, after) = around_merge(portable(name, "w4a4-dynamic-token", dtype))
    assert changes == 1
    for output, array in before.items():
        # ONNX Runtime adds up products in an order that depends on N; the GEMM itself has columns of its own.
        bound = {"float32": 2**-20, "float16": 0.12}[dtype]
        assert np.abs(array.astype(float) - after[output]).max() <= bound * np.abs(array.astype(float)).max()


def test_query_key_and_value_are_stacked_in_order(portable):
    exported = portable("heads")
    model = until(PluginLinears, exported.path)
    before = {site.layer: [array_of(v).copy() for v in site.weight.inputs] for site in find_sites(model.graph)}
    merged, _, _ = around_merge(exported)
    (node,) = [n for n in gemms(merged) if len(layers_of(n)) > 1]
    assert layers_of(node) == ("query", "key", "value")
    codes, tiles, beta = (array_of(value) for value in node.inputs[3:6])
    parts = [before[layer] for layer in layers_of(node)]
    assert codes.tobytes() == b"".join(packed.tobytes() for packed, _, _ in parts)
    rows = unswizzle_bytes(tiles.view(np.uint8), 192, 4)
    assert rows.tobytes() == b"".join(steps.tobytes() for _, steps, _ in parts)
    assert beta.tolist() == [float(scale) for _, _, scale in parts for _ in range(64)]
    split = next(n for n in merged.graph if n.op_type == "Split")
    assert array_of(split.inputs[1]).tolist() == [64, 64, 64]


def test_what_a_plugin_reads_is_not_merged(portable):
    """Gate and up share an activation, and the quantizer of `down` reads both."""
    merged, _, _ = around_merge(portable("llama"))
    assert [layers_of(node) for node in gemms(merged)] == [("q", "k", "v"), ("o",), ("gate",), ("up",), ("down",)]


def test_a_missing_bias_counts_as_none(portable):
    """One of three linears loses its bias; the stacked bias must leave its columns as they are."""
    exported = portable("heads")
    model = until(PluginMerge, exported.path)
    node = next(n for n in gemms(model) if layers_of(n) == ("key",))
    node.resize_inputs(6)
    node.attributes["has_bias"] = type(node.attributes["has_bias"])(
        "has_bias", node.attributes["has_bias"].type, 0
    )
    assert PluginMerge().run(model) == 1
    (merged,) = [n for n in gemms(model) if len(layers_of(n)) > 1]
    bias = array_of(merged.inputs[6])
    assert bias.shape == (192,)
    assert not bias[64:128].any()
    assert np.signbit(bias[64:128]).all()
    assert bias[:64].any()
    assert bias[128:].any()


def test_apart_weights_are_gone(portable):
    merged, _, _ = around_merge(portable("llama"))
    weights = ("_codes", "_tiles", "_beta", "bias")
    left = [value for name, value in merged.graph.initializers.items() if name.endswith(weights)]
    assert left
    assert all(value.uses() for value in left)
