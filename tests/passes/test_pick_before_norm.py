import numpy as np
import pytest
from both_sides import CASES, around, assert_leaves_alone, assert_same_bits, prefix

from nvfp4_trt.passes import PickBeforeNorm
from nvfp4_trt.portable import is_ours, load


def gather_of_norm(model):
    """Return the one Gather that picks rows behind a norm."""
    (found,) = (
        node
        for node in model.graph
        if node.op_type == "Gather" and (p := node.inputs[0].producer()) and p.op_type == "LayerNormalization"
    )
    return found


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_meaning_is_unchanged(portable, case):
    assert_same_bits(around(PickBeforeNorm, portable(*case)))


@pytest.mark.parametrize("recipe", ["w4a4-dynamic", "w4a4-dynamic-token", "w4a4-static", "w4a4-single-level"])
def test_the_pooled_token_is_picked_in_front_of_its_norm(portable, recipe):
    run = around(PickBeforeNorm, portable("heads", recipe))
    assert run.changes == 1
    quantizers = [n for n in run.model.graph if is_ours(n, {"Quantize", "QuantizeSingleLevel"})]
    producers = [node.inputs[0].producer() for node in quantizers if node.inputs[0].producer()]
    assert "Gather" not in {node.op_type for node in producers}
    norms = [node for node in producers if node.op_type == "LayerNormalization"]
    (pooled,) = (node for node in norms if (p := node.inputs[0].producer()) and p.op_type == "Gather")
    assert len(pooled.outputs[0].shape) == 2


@pytest.mark.parametrize("name", ["rows", "bare", "mlp", "gpt2", "encoder"])
def test_nothing_to_pick(portable, name):
    assert_leaves_alone(PickBeforeNorm, prefix(PickBeforeNorm, portable(name).path))


def test_without_a_quantizer_behind_it_a_pick_is_left(portable):
    assert_leaves_alone(PickBeforeNorm, prefix(PickBeforeNorm, portable("heads", "w4a16").path))


def test_a_norm_over_two_axes_is_left(portable):
    model, _ = load(portable("heads").path)
    norm = gather_of_norm(model).inputs[0].producer()
    norm.attributes["axis"] = type(norm.attributes["axis"])("axis", norm.attributes["axis"].type, 1)
    assert_leaves_alone(PickBeforeNorm, model)


def test_a_pick_along_the_norms_own_axis_is_left(portable):
    model, _ = load(portable("heads").path)
    gather = gather_of_norm(model)
    gather.attributes["axis"] = type(gather.attributes["axis"])("axis", gather.attributes["axis"].type, 2)
    assert_leaves_alone(PickBeforeNorm, model)


def test_the_other_rows_keep_their_norm(portable):
    exported = portable("heads")
    run = around(PickBeforeNorm, exported)
    hidden = run.after[run.model.graph.outputs[0].name]
    assert hidden.shape == (2, 6, 64)
    assert np.isfinite(hidden).all()
