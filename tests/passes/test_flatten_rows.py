import onnx_ir as ir
import pytest
from both_sides import CASES, apply, around, assert_leaves_alone, assert_same_bits, prefix

from nvfp4_trt.passes import FlattenRows
from nvfp4_trt.portable import find_sites, is_ours


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_meaning_is_unchanged(portable, case):
    assert_same_bits(around(FlattenRows, portable(*case)))


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_every_quantizer_sees_rank_2(portable, case):
    run = around(FlattenRows, portable(*case))
    quantizers = [node for node in run.model.graph if is_ours(node, {"Quantize"})]
    assert {len(node.inputs[0].shape) for node in quantizers} <= {2}


@pytest.mark.parametrize(("name", "quantizers"), [("bare", 1), ("rank4", 1), ("heads", 2), ("gpt2", 5)])
def test_changes_count_quantizers_and_not_layers(portable, name, quantizers):
    assert around(FlattenRows, portable(name)).changes == quantizers


@pytest.mark.parametrize("name", ["rows", "mlp"])
def test_rank_2_is_left(portable, name):
    assert_leaves_alone(FlattenRows, prefix(FlattenRows, portable(name).path))


def test_weight_only_is_left(portable):
    assert_leaves_alone(FlattenRows, prefix(FlattenRows, portable("heads", "w4a16").path))


def also_used_elsewhere(model):
    """Let the dequantized activation of the first site be a graph output through an Identity."""
    values = find_sites(model.graph)[0].activation.outputs[0]
    node = ir.node("Identity", [values], name="elsewhere")
    node.outputs[0].name = "elsewhere"
    node.outputs[0].type, node.outputs[0].shape = values.type, values.shape
    model.graph.append(node)
    model.graph.outputs.append(node.outputs[0])


def test_an_activation_that_is_also_used_elsewhere_is_left(portable):
    model = prefix(FlattenRows, portable("bare").path)
    also_used_elsewhere(model)
    assert_leaves_alone(FlattenRows, model)


def test_a_shared_quantizer_that_is_also_used_elsewhere_is_left_whole(portable):
    exported = portable("heads")
    model = prefix(FlattenRows, exported.path)
    also_used_elsewhere(model)
    run = apply(FlattenRows, model, exported.feeds)
    assert run.changes == 1  # the quantizer of `out`; that of query, key and value is left
    assert_same_bits(run)


def test_an_activation_that_is_itself_an_output_is_left(portable):
    model = prefix(FlattenRows, portable("bare").path)
    model.graph.outputs.append(find_sites(model.graph)[0].activation.outputs[0])
    assert_leaves_alone(FlattenRows, model)


def test_other_extents_than_the_examples(portable):
    exported = portable("heads")
    (name, x), *_ = exported.feeds.items()
    run = apply(FlattenRows, prefix(FlattenRows, exported.path), {name: x[:1, :3]})
    assert_same_bits(run)
