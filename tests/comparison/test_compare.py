import json

import numpy as np
import onnx
import pytest
import torch
from polygraphy.json import load_json, save_json
from torch import nn

from nvfp4_trt.comparison import compare_onnx, compare_saved
from nvfp4_trt.errors import (
    FileMissingError,
    InputsMismatchError,
    InputsMissingError,
    ModelRunError,
    NotAModelError,
    NotOurOnnxError,
    OnnxRunError,
    OutputUnwritableError,
    WrongKindError,
)
from nvfp4_trt.loading import flatten_outputs


def compare(exported, batches, **options):
    return compare_onnx(exported.path, exported.module, batches, reference_name="model.pt", **options)


def test_a_file_against_its_float_model(exported, batches, capfd):
    found = compare(exported, batches)
    assert [output.name for output in found.outputs] == ["hidden", "y"]
    assert (found.batches, found.reference, found.model) == (2, "model.pt", str(exported.path))
    assert all(10 < output.sqnr_db < 40 and 0.95 < output.cosine < 1 for output in found.outputs)
    assert capfd.readouterr() == ("", "")
    json.dumps(found.as_dict(), allow_nan=False)


def test_metrics_are_those_of_all_batches_computed_in_torch(exported, batches):
    found = compare(exported, batches)
    with torch.no_grad():
        float_y = torch.cat([exported.module(**b)["y"] for b in batches]).double()
        quantized_y = torch.cat([exported.quantized(**b)["y"] for b in batches]).double()
    sqnr = 10 * torch.log10(float_y.square().sum() / (float_y - quantized_y).square().sum())
    assert found.outputs[1].sqnr_db == pytest.approx(float(sqnr), abs=1e-3)


def test_the_file_computes_what_the_quantized_module_computes(exported, batches):
    found = compare_onnx(exported.path, exported.quantized, batches, reference_name="quantized")
    found.check(min_sqnr=100)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision(tmp_path, exporter, make_batch, dtype):
    made = exporter(tmp_path, dtype)
    batches = [make_batch(5, dtype=dtype), make_batch(2, dtype=dtype, seed=3)]
    compare(made, batches).check(min_sqnr=10, min_cosine=0.95)
    near = compare_onnx(made.path, made.quantized, batches, reference_name="quantized")
    near.check(min_sqnr=25)  # an activation that rounds the other way takes the next code


def test_an_input_that_the_graph_lost_may_be_given(exported, batches, tmp_path):
    proto = onnx.load(exported.path)
    assert [value.name for value in proto.graph.input] == ["x", "unused"]
    del proto.graph.input[1]
    pruned = tmp_path / "pruned.onnx"
    onnx.save(proto, pruned)
    inputs = tmp_path / "inputs.json"
    found = compare_onnx(pruned, exported.module, batches, reference_name="model.pt", save_inputs=inputs)
    assert found.outputs == compare(exported, batches).outputs
    assert [list(feed) for feed in load_json(str(inputs))] == [["x"], ["x"]]


def test_saved_files_give_the_same_comparison(exported, batches, tmp_path):
    inputs, outputs = tmp_path / "inputs.json", tmp_path / "reference.json"
    found = compare(exported, batches, save_inputs=inputs, save_outputs=outputs)
    assert [list(feed) for feed in load_json(str(inputs))] == [["x", "unused"]] * 2
    assert compare_saved(exported.path, outputs, inputs) == found
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inputs.json", "reference.json"]


def without(name):
    return lambda b: {key: value for key, value in b.items() if key != name}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (without("x"), "takes the inputs x"),
        (lambda b: {**b, "mask": b["x"]}, "mask"),
        (lambda b: {**b, "x": b["x"].double()}, "float32"),
        (lambda b: {**b, "x": b["x"][:, :48]}, r"\[batch, 64\]"),
        (lambda b: {**b, "x": b["x"][0]}, r"\[64\]"),
    ],
)
def test_inputs_that_do_not_fit_the_file(exported, batches, change, told):
    with pytest.raises(InputsMismatchError, match=told):
        compare(exported, [change(b) for b in batches])


def test_batches_with_different_names(exported, batches):
    with pytest.raises(InputsMismatchError):
        compare(exported, [batches[0], without("unused")(batches[1])])


def test_no_batches(exported):
    with pytest.raises(InputsMissingError):
        compare(exported, [])


class Renamed(nn.Module):
    def forward(self, x, unused):  # noqa: ARG002
        return {"hidden": x, "z": x}


class OtherShape(nn.Module):
    def forward(self, x, unused):  # noqa: ARG002
        return {"hidden": x, "y": x}


class Integers(nn.Module):
    def forward(self, x, unused):  # noqa: ARG002
        return {"hidden": torch.zeros(len(x), 128, dtype=torch.int64), "y": x[:, :32]}


class Wider(nn.Module):
    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x, unused):
        return {name: value.double() for name, value in self.module(x, unused).items()}


def test_other_dtypes_are_told(exported, batches):
    found = compare_onnx(exported.path, Wider(exported.module), batches, reference_name="m")
    assert found.dtypes == {"hidden": ("float64", "float32"), "y": ("float64", "float32")}


class Raises(nn.Module):
    def forward(self, x, unused):  # noqa: ARG002
        raise KeyError("no such thing")


@pytest.mark.parametrize(
    ("module", "error", "told"),
    [
        (Renamed(), InputsMismatchError, "hidden, z"),
        (OtherShape(), InputsMismatchError, r"\[4, 128\]"),
        (Integers(), InputsMismatchError, "hidden is float32 from .* int64 in the reference"),
        (Raises(), ModelRunError, "no such thing"),
    ],
)
def test_another_model(exported, batches, module, error, told, tmp_path):
    with pytest.raises(error, match=told):
        compare_onnx(exported.path, module, batches, reference_name="other")


def test_a_poisoned_model_fails_the_check(exported, batches):
    poisoned = [{**b, "x": b["x"].clone()} for b in batches]
    poisoned[1]["x"][0, 0] = float("nan")
    found = compare(exported, poisoned)
    assert np.isnan(found.outputs[0].sqnr_db)


def test_files_that_cannot_be_compared(exported, batches, tmp_path):
    missing, text, foreign = tmp_path / "no.onnx", tmp_path / "text.onnx", tmp_path / "foreign.onnx"
    text.write_text("hello")
    onnx.save(onnx.parser.parse_model(FOREIGN), foreign)
    for path, error in ((missing, FileMissingError), (text, NotAModelError), (foreign, NotOurOnnxError)):
        with pytest.raises(error):
            compare_onnx(path, exported.module, batches, reference_name="m")


FOREIGN = '<ir_version: 10, opset_import: ["": 21]> g (float[2] x) => (float[2] y) { y = Identity(x) }'


def test_onnxruntime_refuses_the_file(exported, batches, tmp_path, capfd):
    proto = onnx.load(exported.path)
    del proto.functions[:]
    broken = tmp_path / "broken.onnx"
    onnx.save(proto, broken)
    with pytest.raises(OnnxRunError, match="ONNX Runtime refused") as caught:
        compare_onnx(broken, exported.module, batches, reference_name="m")
    assert str(broken) in caught.value.message
    assert capfd.readouterr() == ("", "")


def test_onnxruntime_fails_while_it_runs(exported, batches, tmp_path):
    proto = onnx.load(exported.path)
    shape = onnx.helper.make_tensor("wrong_shape", onnx.TensorProto.INT64, [1], [7])
    node = onnx.helper.make_node("Reshape", ["y_before", "wrong_shape"], ["y"])
    last = next(node for node in proto.graph.node if "y" in node.output)
    last.output[0] = "y_before"
    proto.graph.node.append(node)
    proto.graph.initializer.append(shape)
    broken = tmp_path / "broken.onnx"
    onnx.save(proto, broken)
    with pytest.raises(OnnxRunError, match="failed in"):
        compare_onnx(broken, exported.module, batches, reference_name="m")


def test_an_unwritable_place_is_refused_before_anything_runs(exported, batches, tmp_path):
    with pytest.raises(OutputUnwritableError):
        compare(exported, batches, save_outputs=tmp_path / "no" / "out.json")


def test_saved_files_that_are_not(exported, batches, tmp_path):
    inputs, outputs = tmp_path / "inputs.json", tmp_path / "outputs.json"
    compare(exported, batches, save_inputs=inputs, save_outputs=outputs)
    text, short = tmp_path / "text.json", tmp_path / "short.json"
    text.write_text("{")
    save_json(load_json(str(inputs))[:1], str(short))
    with pytest.raises(FileMissingError):
        compare_saved(exported.path, tmp_path / "no.json", inputs)
    for wrong in (text, inputs):
        with pytest.raises(WrongKindError):
            compare_saved(exported.path, wrong, inputs)
    for wrong in (text, outputs):
        with pytest.raises(WrongKindError):
            compare_saved(exported.path, outputs, wrong)
    with pytest.raises(InputsMismatchError, match="holds 1 batches"):
        compare_saved(exported.path, outputs, short)


def test_output_names_are_those_of_flatten_outputs(exported, batches):
    names = list(flatten_outputs(exported.module(**batches[0])))
    assert [value.name for value in onnx.load(exported.path).graph.output] == names
