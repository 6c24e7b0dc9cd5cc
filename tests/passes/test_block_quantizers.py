import numpy as np
import onnx_ir as ir
import pytest
from both_sides import CASES, Run, assert_leaves_alone, error, evaluate, prefix

from nvfp4_trt.passes import BlockQuantizers, TensorRTQuantizers, lower
from nvfp4_trt.passes.trt_functions import TRT_QUANTIZE
from nvfp4_trt.portable import is_ours, load

W4A4 = [case for case in CASES if case[1] != "w4a16"]


@pytest.mark.parametrize("case", W4A4, ids="-".join)
def test_no_quantizer_but_standard_ones_is_left(portable, case):
    model, _ = load(portable(*case).path)
    lowering = lower(model, form="blocks")
    assert lowering.changes["block-quantizers"] > 0
    assert lowering.changes["tensorrt-quantizers"] == 0
    assert not [node for node in model.graph if node.op_type == TRT_QUANTIZE or is_ours(node)]


def test_weight_only_is_left(portable):
    assert_leaves_alone(BlockQuantizers, prefix(TensorRTQuantizers, portable("heads", "w4a16").path))


@pytest.mark.parametrize("size", [0.0, 2.0**-149, 2.0**-126, 1e-30, 1.0, 60000.0])
def test_a_block_far_below_its_rows_amax(portable, size):
    """Its scale rounds to zero: its codes are divided by something else and multiplied by that zero."""
    exported = portable("rows")
    (key, x), *_ = exported.feeds.items()
    x = x.copy()
    x[:, :16] = size
    x[:, 16:] *= np.float32(1e4)
    model, _ = load(exported.path)
    before = evaluate(model, {key: x})
    lower(model, form="blocks")
    after = evaluate(model, {key: x})
    assert all(np.isfinite(array).all() for array in after.values())
    assert error(Run(0, before, after, model)) < 2**-20


def test_rank_3_is_left_to_tensorrts_operator(portable):
    model = prefix(TensorRTQuantizers, portable("heads").path)
    (first, *_) = [node for node in model.graph if is_ours(node, {"Quantize"})]
    x = first.inputs[0]
    x.shape = ir.Shape([2, *x.shape])
    left = sum(is_ours(node, {"Quantize"}) for node in model.graph) - 1
    assert BlockQuantizers().run(model) == left


def test_a_quantizer_is_few_nodes_and_none_is_a_slice(portable):
    """TensorRT's time grows faster than the nodes, and each slice of dynamic rows is five of its layers."""
    model, _ = load(portable("rows").path)
    lower(model, form="blocks")
    quantizers = {
        name.removesuffix("codes") for node in model.graph if (name := node.name or "").endswith("/codes")
    }
    assert quantizers
    for prefix_ in quantizers:
        kinds = [node.op_type for node in model.graph if (node.name or "").startswith(prefix_)]
        assert len(kinds) < 20
        assert not {"Slice", "Split"} & set(kinds)
