"""Plans of float ONNX files: equal to those of what export makes of the same model, or one clear error."""

import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from hostile import HOSTILE
from onnx import TensorProto, helper, numpy_helper
from parts import example

import nvfp4_trt
from nvfp4_trt.errors import (
    FileMissingError,
    FileTruncatedError,
    NotAModelError,
    NothingToQuantizeError,
    NotOurOnnxError,
    OnnxInvalidError,
    PatternMatchesNothingError,
    ProfileError,
    RecipeInvalidError,
    WrongKindError,
)
from nvfp4_trt.recipe import RECIPES, Weights

WIDTH = 64
DIMS = ["batch=1:8:32", "sequence=1:128:512"]


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    """Self-attention as torch writes it, with its weights beside it; in the opset of portable files."""
    module, batch, _ = example("heads")
    path = tmp_path_factory.mktemp("float") / "heads.onnx"
    shapes = {"x": {0: "batch", 1: "sequence"}}
    torch.onnx.export(
        module, (), path, kwargs=batch, dynamo=True, opset_version=23, dynamic_shapes=shapes, verbose=False
    )
    (path.parent / f"{path.name}.data").write_bytes(b"")  # nobody reads it
    return path


def figures(plan):
    found = {}
    for engine in plan.gpus[0].engines:
        kinds = sorted((row.kind, row.kernels, row.precision, row.bytes, row.weight_bytes) for row in engine.rows)
        found[engine.precision] = (engine.kernels, engine.device_bytes, kinds)
    return found


@pytest.mark.parametrize("recipe", RECIPES)
def test_it_is_planned_as_the_file_that_export_makes(heads, tmp_path, recipe):
    module, batch, dynamic = example("heads")
    path = tmp_path / "portable.onnx"
    nvfp4_trt.export(
        module, path, inputs=[batch], dynamic=dynamic, recipe=recipe, fp8=("out",), exclude=("pooler",)
    )
    expected = nvfp4_trt.plan(path, gpus=["rtx5090"], dims=DIMS)
    plan = nvfp4_trt.plan(heads, gpus=["rtx5090"], dims=DIMS, recipe=recipe, fp8=("out",), exclude=("pooler",))
    assert figures(plan) == figures(expected)
    for one, other in zip(plan.gpus[0].engines, expected.gpus[0].engines, strict=True):
        # An engine has the names of nodes in it, and those are others.
        assert one.engine_bytes == pytest.approx(other.engine_bytes, rel=5e-3)
    assert plan.source == str(heads)
    assert plan.recipe == recipe
    assert "4 of its 6 products" in plan.notes[0]
    assert "pooler: excluded by pattern" in plan.notes[1]


def linears(path, count=2, *, opset=17, rows="rows", name="n{}", change=None):
    """Write a chain of MatMul and Relu, and return its path."""
    weight = np.zeros((WIDTH, WIDTH), np.float32)
    nodes, weights, at = [], [], "x"
    for index in range(count):
        weights.append(numpy_helper.from_array(weight, f"w{index}"))
        label = name.format(index) if "{}" in name else name
        nodes += [
            helper.make_node("MatMul", [at, f"w{index}"], [f"m{index}"], name=label),
            helper.make_node("Relu", [f"m{index}"], [f"r{index}"], name=f"{label}/relu"),
        ]
        at = f"r{index}"
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [rows, WIDTH]), (at, None))]
    model = helper.make_model(
        helper.make_graph(nodes, "g", ends[:1], ends[1:], weights), opset_imports=[helper.make_opsetid("", opset)]
    )
    if change is not None:
        change(model)
    onnx.save(model, path)
    return path


def fp4_rows(plan):
    return [row.name for row in plan.gpus[0].engine("nvfp4").rows if row.precision == "fp4"]


def plan_of(path, *dims, **options):
    return nvfp4_trt.plan(path, gpus=["rtx5090"], dims=dims, **options)


@pytest.mark.parametrize("opset", [7, 13, 20, 24])
def test_every_opset_is_planned_alike(tmp_path, opset):
    assert fp4_rows(plan_of(linears(tmp_path / "old.onnx", opset=opset), "rows=8")) == ["n0", "n1"]


def test_patterns_choose_by_the_names_of_check(tmp_path):
    path = linears(tmp_path / "float.onnx", 3)
    names = [layer.name for layer in nvfp4_trt.check(path).layers]
    assert fp4_rows(plan_of(path, "rows=8", only=(names[1],))) == [names[1]]
    with pytest.raises(PatternMatchesNothingError, match="nothing"):
        plan_of(path, "rows=8", exclude=("nothing",))
    with pytest.raises(NothingToQuantizeError, match="excluded by pattern"):
        plan_of(path, "rows=8", exclude=("*",))


def test_layers_that_share_a_weight_share_its_bytes(tmp_path):
    def share(model):
        model.graph.node[2].input[1] = "w0"
        del model.graph.initializer[1]

    apart = plan_of(linears(tmp_path / "apart.onnx"), "rows=8").gpus[0].engine("nvfp4")
    shared = plan_of(linears(tmp_path / "shared.onnx", change=share), "rows=8").gpus[0].engine("nvfp4")
    assert shared.kernels == apart.kernels
    assert shared.weight_bytes < apart.weight_bytes


def test_weights_in_constant_nodes_and_names_that_are_not_unique_or_hostile(tmp_path):
    def constant(model):
        node = helper.make_node("Constant", [], ["w0"], value=model.graph.initializer[0])
        model.graph.node.insert(0, node)
        del model.graph.initializer[0]

    assert len(fp4_rows(plan_of(linears(tmp_path / "constant.onnx", change=constant), "rows=8"))) == 2
    rows = fp4_rows(plan_of(linears(tmp_path / "größer ✓.onnx", name=HOSTILE), "rows=8"))
    assert rows[0] == HOSTILE
    assert len(set(rows)) == 2


def test_an_operator_that_nothing_is_known_of_is_a_note(tmp_path):
    def foreign(model):
        model.graph.node.insert(1, helper.make_node("Größer", ["m0"], ["f0"], name="größer ✓", domain="acme"))
        model.graph.node[2].input[0] = "f0"
        model.opset_import.append(helper.make_opsetid("acme", 1))

    plan = plan_of(linears(tmp_path / "foreign.onnx", change=foreign), "rows=8")
    assert any("acme::Größer" in note for note in plan.notes)
    assert any("unknown shape" in note for note in plan.notes)


def test_dimensions_without_names_or_extents_are_asked_for(tmp_path):
    path = linears(tmp_path / "unnamed.onnx", rows=None)
    with pytest.raises(ProfileError, match=r"how large x\.0 may be") as caught:
        plan_of(path)
    assert caught.value.hint == "give --dim x.0=1:8:32"
    assert plan_of(path, "x.0=1:4:8").shapes == {"x": (4, WIDTH)}
    with pytest.raises(ProfileError, match="no such dimension"):
        plan_of(path, "x.0=4", "batch=4")

    def bare(model):
        model.graph.input[0].type.tensor_type.ClearField("shape")

    with pytest.raises(OnnxInvalidError, match="input 'x' has no shape"):
        plan_of(linears(tmp_path / "bare.onnx", change=bare))


def test_constants_beside_the_file_are_read_where_shapes_hang_on_them(tmp_path):
    def reshape(model):
        model.graph.node[1].CopyFrom(helper.make_node("Reshape", ["m0", "target"], ["r0"], name="n0/relu"))
        model.graph.initializer.append(numpy_helper.from_array(np.array([-1, WIDTH]), "target"))

    path = linears(tmp_path / "inside.onnx", change=reshape)
    outside = tmp_path / "outside.onnx"
    onnx.save(onnx.load(path), outside, save_as_external_data=True, location="outside.data", size_threshold=0)
    assert figures(plan_of(outside, "rows=8")) == figures(plan_of(path, "rows=8"))
    (tmp_path / "outside.data").unlink()
    with pytest.raises(FileMissingError, match="target"):
        plan_of(outside, "rows=8")


def test_what_cannot_be_planned_is_one_error(tmp_path):
    def cycle(model):
        model.graph.node[0].input[0] = "r1"

    with pytest.raises(OnnxInvalidError, match="cyclic"):
        plan_of(linears(tmp_path / "cyclic.onnx", change=cycle), "rows=8")
    with pytest.raises(NothingToQuantizeError, match="a dimension is 0"):
        plan_of(linears(tmp_path / "empty.onnx", rows=0))

    def no_layer(model):
        model.graph.node[1].input[0] = "x"
        del model.graph.node[0]

    with pytest.raises(NothingToQuantizeError, match="none of the 0 layers"):
        plan_of(linears(tmp_path / "none.onnx", 1, change=no_layer), "rows=8")
    whole = linears(tmp_path / "whole.onnx").read_bytes()
    (tmp_path / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileTruncatedError):
        plan_of(tmp_path / "cut.onnx")
    (tmp_path / "text.onnx").write_text("no model at all\n")
    with pytest.raises(NotAModelError):
        plan_of(tmp_path / "text.onnx")


def test_options_that_need_the_module_or_its_data_are_refused(tmp_path):
    path = linears(tmp_path / "float.onnx")
    with pytest.raises(WrongKindError, match="--dynamic"):
        plan_of(path, "rows=8", dynamic=("batch",))
    with pytest.raises(RecipeInvalidError, match="low_rank"):
        plan_of(path, "rows=8", recipe=RECIPES["w4a4-static"].model_copy(update={"weights": Weights(low_rank=8)}))


@pytest.mark.parametrize("operator", ["TRT_FP4QDQ", "TRT_FP4DynamicQuantize"])
def test_another_tools_nvfp4_is_not_taken_for_a_float_file(tmp_path, operator):
    def modelopt(model):
        model.graph.node.insert(0, helper.make_node(operator, ["w0"], ["q0"], domain="trt"))
        model.graph.node[1].input[1] = "q0"
        model.opset_import.append(helper.make_opsetid("trt", 1))

    with pytest.raises(NotOurOnnxError, match="another tool"):
        plan_of(linears(tmp_path / "modelopt.onnx", change=modelopt), "rows=8")


def test_products_in_branches_stay_as_they_are(tmp_path):
    def branch(model):
        end = helper.make_tensor_value_info("m1", TensorProto.FLOAT, None)
        inner = helper.make_graph([model.graph.node[2]], "b", [], [end])
        del model.graph.node[2]
        model.graph.node.insert(2, helper.make_node("If", ["yes"], ["m1"], then_branch=inner, else_branch=inner))
        model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))

    plan = plan_of(linears(tmp_path / "branch.onnx", change=branch), "rows=8")
    assert fp4_rows(plan) == ["n0"]
    assert any("inside a branch" in note for note in plan.notes)


def test_a_portable_file_whose_shapes_a_tool_dropped_is_planned(portable, tmp_path):
    """Linears are merged where a file says shapes, so kernels differ; dtypes and extents are followed anyway."""
    model = onnx.load(portable("heads", "w4a4-static").path)
    model.graph.ClearField("value_info")
    onnx.save(model, tmp_path / "bare.onnx")
    expected = nvfp4_trt.plan(portable("heads", "w4a4-static").path, gpus=["rtx5090"])
    found = nvfp4_trt.plan(tmp_path / "bare.onnx", gpus=["rtx5090"])
    assert found.notes == ()
    assert found.gpus[0].engine("bf16").kernels == expected.gpus[0].engine("bf16").kernels
    linear = [row for row in found.gpus[0].engine("fp8").rows if row.kind == "linear"]
    assert {row.precision for row in linear if row.name != "pooler"} == {"fp8"}


def test_an_attention_behind_an_unknown_operator_is_one_kernel(tmp_path):
    def attend(model):
        model.graph.node.append(helper.make_node("Foo", ["r1"], ["f"], name="foo", domain="acme"))
        model.graph.node.append(helper.make_node("Attention", ["f", "f", "f"], ["end"], name="attention"))
        model.graph.output[0].name = "end"
        model.opset_import.append(helper.make_opsetid("acme", 1))

    plan = plan_of(linears(tmp_path / "attention.onnx", opset=23, change=attend), "rows=8")
    assert [row.kernels for row in plan.gpus[0].engine("nvfp4").rows if row.name == "attention"] == [1]
    assert any("unknown shape" in note for note in plan.notes)


def test_torch_is_not_needed(tmp_path):
    path = linears(tmp_path / "float.onnx")
    code = (
        "import sys; from pathlib import Path; from nvfp4_trt.planning import plan_onnx; "
        f"plan_onnx(Path({str(path)!r}), gpus=['b200'], dims=['rows=8']); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
