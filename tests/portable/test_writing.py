"""The streamed file is the one that protobuf would write, byte for byte."""

import os

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from nvfp4_trt.errors import FileTruncatedError
from nvfp4_trt.portable import load, save
from nvfp4_trt.portable.writing import write_whole


@pytest.mark.parametrize("at_least", [1, 1024, 2**40])
@pytest.mark.parametrize("name", ["heads", "rows"])
def test_the_bytes_of_one_file(portable, tmp_path, name, at_least):
    model, _ = load(portable(name).path)
    expected = ir.serde.serialize_model(model).SerializeToString()
    write_whole(model, tmp_path / "m.onnx", tmp_path / "outline", at_least=at_least)
    assert (tmp_path / "m.onnx").read_bytes() == expected
    assert ir.serde.serialize_model(model).SerializeToString() == expected


def test_an_outline_reads_the_weights_of_the_file(portable, tmp_path):
    model, _ = load(portable("heads").path)
    write_whole(model, tmp_path / "m.onnx", tmp_path / "outline.onnx", at_least=1024)
    assert (tmp_path / "outline.onnx").stat().st_size < (tmp_path / "m.onnx").stat().st_size
    again = ir.load(tmp_path / "outline.onnx")
    referred = [v for v in again.graph.initializers.values() if isinstance(v.const_value, ir.ExternalTensor)]
    assert len(referred) > 1
    for value in referred:
        assert value.const_value.tobytes() == model.graph.initializers[value.name].const_value.tobytes()


@pytest.fixture
def in_a_file(tmp_path):
    """A model whose weight lies in the middle of another file."""
    array = np.random.default_rng(0).standard_normal((96, 128)).astype(np.float32)
    (tmp_path / "weights").write_bytes(b"x" * 12 + array.tobytes() + b"y" * 12)
    model = ir.from_onnx_text(
        '<ir_version: 11, opset_import: ["": 23]> g (float[2,96] x) => (float[2,128] y) { y = MatMul(x, w) }'
    )
    tensor = ir.ExternalTensor(
        "weights",
        12,
        array.nbytes,
        ir.DataType.FLOAT,
        shape=ir.Shape(array.shape),
        name="w",
        base_dir=tmp_path,
    )
    value = next(v for v in model.graph.node(0).inputs if v.name == "w")
    value.const_value = tensor
    value.shape, value.dtype = tensor.shape, tensor.dtype
    model.graph.register_initializer(value)
    return model, array


@pytest.mark.parametrize("limit", [2**30, 0])
def test_weights_are_copied_from_their_file(in_a_file, tmp_path, limit):
    model, array = in_a_file
    (tmp_path / "out").mkdir()
    save(model, tmp_path / "out" / "m.onnx", limit=limit)
    assert len(list((tmp_path / "out").iterdir())) == (1 if limit else 2)
    (again,) = onnx.load(tmp_path / "out" / "m.onnx").graph.initializer
    assert np.array_equal(onnx.numpy_helper.to_array(again), array)


@pytest.mark.parametrize("limit", [2**30, 0])
def test_a_file_of_weights_that_became_shorter(in_a_file, tmp_path, limit):
    os.truncate(tmp_path / "weights", 1000)
    (tmp_path / "out").mkdir()
    with pytest.raises(FileTruncatedError, match="weights ends within the tensor w"):
        save(in_a_file[0], tmp_path / "out" / "m.onnx", limit=limit)
    assert list((tmp_path / "out").iterdir()) == []
