"""Files that were edited or cut short: a row, or one clear error."""

import json
import os
from itertools import pairwise

import numpy as np
import onnx
import pytest
from edited import edit_json
from onnx import helper, numpy_helper

from nvfp4_trt.errors import (
    FileMissingError,
    FileTruncatedError,
    NotOurOnnxError,
    OnnxInvalidError,
    UnknownGpuError,
)
from nvfp4_trt.portable import load, save
from nvfp4_trt.reporting import collect, render


def edited(made, tmp_path, change):
    model = onnx.load(made.onnx)
    change(model)
    path = tmp_path / "edited.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def entry(key, change):
    """Return what changes an entry of the metadata."""

    def edit(model):
        for each in model.metadata_props:
            if each.key == f"nvfp4.{key}":
                each.value = json.dumps(change(json.loads(each.value)))

    return edit


def tensors(suffix, array):
    """Return what puts an array in the place of every tensor whose name ends so."""

    def edit(model):
        for tensor in model.graph.initializer:
            if tensor.name.endswith(suffix):
                tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))

    return edit


def cut(model):
    for tensor in model.graph.initializer:
        if tensor.name.endswith("block_scale"):
            tensor.raw_data = tensor.raw_data[:5]


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (NotOurOnnxError, entry("recipe", lambda _: 3)),
        (NotOurOnnxError, entry("recipe", lambda recipe: {**recipe, "of": "a later version"})),
        (NotOurOnnxError, entry("layers", lambda rows: [{**row, "shape": ["a"]} for row in rows])),
        (NotOurOnnxError, entry("layers", lambda rows: [{**row, "name": 3} for row in rows])),
        (NotOurOnnxError, entry("versions", lambda _: ["torch"])),
        (OnnxInvalidError, cut),
        (OnnxInvalidError, tensors("weight_packed", np.zeros((4, 4), np.float32))),
        (OnnxInvalidError, tensors("weight_block_scale", np.zeros((4, 4), np.float32))),
    ],
)
def test_one_error(made, tmp_path, kind, change):
    with pytest.raises(kind, match=r"edited\.onnx"):
        collect(edited(made, tmp_path, change))


def cycle(model):
    model.graph.node[0].input[0] = model.graph.node[-1].output[0]


def without_shapes(model):
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.ClearField("shape")


def many_nodes(model):
    names = [model.graph.output[0].name, *(f"i{number}" for number in range(10_000))]
    for before, after in pairwise(names):
        model.graph.node.append(helper.make_node("Identity", [before], [after], name=after))


@pytest.mark.parametrize(
    "change",
    [
        cycle,
        without_shapes,
        many_nodes,
        entry("layers", lambda rows: [{**row, "shape": [0, 64]} for row in rows]),
        entry("layers", lambda _: []),
        tensors("weight_packed", np.zeros((0, 32), np.uint8)),
    ],
)
def test_a_page_all_the_same(made, tmp_path, change):
    assert "Where the bytes" in render(collect(edited(made, tmp_path, change)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_scale_that_is_no_number_is_said(made, tmp_path, value):
    change = tensors("query.weight_per_tensor_scale", np.array(value, np.float32))
    report = collect(edited(made, tmp_path, change))
    layers = {layer.name: layer for layer in report.layers}
    assert (layers["query"].weight_scale, layers["query"].reason) == (None, f"its per-tensor scale is {value}")
    assert f"its per-tensor scale is {value}" in render(report)


def test_data_beside_the_file(made, tmp_path):
    path = tmp_path / "beside.onnx"
    save(load(made.onnx)[0], path, limit=10)
    data = tmp_path / "beside.onnx.data"
    assert collect(path).onnx_bytes == path.stat().st_size + data.stat().st_size
    os.truncate(data, 3000)
    with pytest.raises(FileTruncatedError, match=r"beside\.onnx\.data ends within the tensor"):
        collect(path)
    data.unlink()
    with pytest.raises(FileMissingError, match=r"beside\.onnx\.data"):
        collect(path)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (OnnxInvalidError, {"profile": {}}),
        (OnnxInvalidError, {"profile": {"x": [[0, 0, 64]] * 3}}),
        (OnnxInvalidError, {"loosened": "no such dimension"}),
        (UnknownGpuError, {"targets": ["sm_90"]}),
        (None, {"rows": []}),
    ],
)
def test_records_that_do_not_fit(made, tmp_path, kind, change):
    record = tmp_path / "other.engine.json"
    record.write_bytes(made.onnx.with_name("heads.engine.json").read_bytes())
    edit_json(record, lambda told: told.update(change))
    if kind is None:
        assert collect(made.onnx, engine=record).engine.kernels == ()
        return
    with pytest.raises(kind):
        collect(made.onnx, engine=record)
