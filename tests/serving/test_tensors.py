"""Which dimension counts rows, and which outputs can be cut back."""

import onnx_ir as ir
import pytest

from nvfp4_trt.errors import BucketsInvalidError
from nvfp4_trt.serving.manifest import Tensor
from nvfp4_trt.serving.tensors import batch_dim, input_tensors, output_tensors


def tensor(*shape):
    return Tensor(name="t", dtype="float32", shape=shape)


def value(*shape, dtype=ir.DataType.FLOAT):
    return ir.Value(name="t", shape=ir.Shape(shape), type=ir.TensorType(dtype))


BS = tensor("batch", "sequence")


@pytest.mark.parametrize(
    ("inputs", "outputs", "expected"),
    [
        ([BS, BS], [tensor("batch", "sequence", 64), tensor("batch", 64)], "batch"),
        ([BS, tensor("sequence")], [tensor("batch", 64)], "batch"),  # an input that all rows share
        ([BS], [tensor("batch"), tensor(64)], None),  # an output over all rows
        ([BS], [tensor("sequence", "batch")], None),
        ([tensor("sequence", "batch")], [tensor("batch")], None),
        ([BS, tensor("batch", "batch")], [tensor("batch")], None),
        ([tensor("sequence", 64)], [tensor("sequence", 64)], None),  # rows that may attend to each other
    ],
)
def test_the_batch(inputs, outputs, expected):
    assert batch_dim(inputs, outputs, ("sequence", "batch")) == expected


def test_its_name_starts_so():
    assert batch_dim([tensor("batch_size", 3)], [tensor("batch_size")], ("batch_size",)) == "batch_size"
    assert batch_dim([tensor("rows", 3)], [tensor("rows")], ("rows",)) is None


def test_tensors_of_a_graph():
    (made,) = input_tensors([value("batch", 3, dtype=ir.DataType.BFLOAT16)], {"t": 2.0})
    assert made == Tensor(name="t", dtype="bfloat16", shape=("batch", 3), pad=2.0)
    assert made.numpy_dtype.itemsize == 2


@pytest.mark.parametrize("shape", [("2*sequence", 3), ("sequence + 1",), ("found",)])
def test_an_output_that_cannot_be_cut(shape):
    assert output_tensors([value("sequence", 3)], ("sequence",))[0].shape == ("sequence", 3)
    with pytest.raises(BucketsInvalidError, match="nothing says how to cut a padded result"):
        output_tensors([value(*shape)], ("sequence",))


def test_an_unknown_shape():
    with pytest.raises(BucketsInvalidError, match="nothing is known of the shape of t"):
        output_tensors([ir.Value(name="t")], ("batch",))
