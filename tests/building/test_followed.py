"""A graph that was edited until it contradicts itself: one error wherever it is lowered, and no file."""

import onnx
import pytest

import nvfp4_trt
from nvfp4_trt.building import lower_file
from nvfp4_trt.errors import OnnxInvalidError


def cyclic(graph):
    graph.node[0].input[0] = graph.node[-1].output[0]


def misfitting(graph):
    packed = next(t for t in graph.initializer if t.name == "query.weight_packed")
    packed.dims[0] //= 2
    packed.raw_data = packed.raw_data[: len(packed.raw_data) // 2]


@pytest.mark.parametrize("change", [cyclic, misfitting])
def test_it_is_one_error_and_no_file(portable, tmp_path, change):
    model = onnx.load(portable("heads").path)
    change(model.graph)
    path = tmp_path / "odd.onnx"
    onnx.save(model, path)
    with pytest.raises(OnnxInvalidError, match=r"odd\.onnx cannot be lowered"):
        lower_file(path, tmp_path / "odd.trt.onnx")
    with pytest.raises(OnnxInvalidError, match=r"odd\.onnx cannot be lowered"):
        nvfp4_trt.build(path, tmp_path / "odd.engine", backend="tensorrt_rtx", optimize="off")
    assert [each.name for each in tmp_path.iterdir()] == ["odd.onnx"]
