import pytest
from both_sides import CASES, around, assert_leaves_alone, assert_same_bits, prefix

from nvfp4_trt.passes import KnownK
from nvfp4_trt.portable import is_ours, load


def reshapes(model):
    quantizers = [node for node in model.graph if is_ours(node, {"Quantize", "QuantizeSingleLevel"})]
    producers = {node.inputs[0].producer() for node in quantizers}
    return [node for node in producers if node is not None and node.op_type == "Reshape"]


def last_extent(reshape):
    """Return the constant that ends a Reshape's shape, or None where it is computed."""
    shape = reshape.inputs[1]
    if shape.const_value is not None:
        return int(shape.const_value.numpy()[-1])
    concat = shape.producer()
    last = concat.inputs[-1].const_value
    return None if concat.op_type != "Concat" or last is None else int(last.numpy()[-1])


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_meaning_is_unchanged(portable, case):
    assert_same_bits(around(KnownK, portable(*case)))


@pytest.mark.parametrize(("name", "k"), [("heads", 64), ("gpt2", 64), ("encoder", 64)])
def test_folded_heads_get_their_extent_written_down(portable, name, k):
    run = around(KnownK, portable(name))
    assert run.changes == 1
    assert [last_extent(node) for node in reshapes(run.model)] == [k]


def test_without_a_quantizer_behind_it_a_reshape_is_left(portable):
    assert_leaves_alone(KnownK, prefix(KnownK, portable("heads", "w4a16").path))


def test_a_second_run_changes_nothing_that_is_already_known(portable):
    model, _ = load(portable("rank4").path)
    assert_leaves_alone(KnownK, model)


def test_an_unknown_k_is_left(portable):
    model, _ = load(portable("heads").path)
    (reshape,) = reshapes(model)
    reshape.outputs[0].shape = None
    assert_leaves_alone(KnownK, model)
