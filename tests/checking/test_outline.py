"""Broken, odd and huge ONNX files: a row or one clear error, and no weight is read."""

import contextlib
import sys
from itertools import pairwise

import numpy as np
import onnx
import pytest
from checked_graphs import FORMS
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from nvfp4_trt.checking import check
from nvfp4_trt.errors import FileMissingError, FileTruncatedError, NotAModelError, Nvfp4Error, OnnxInvalidError

FLOAT = TensorProto.FLOAT


def value(name, shape=None):
    return helper.make_tensor_value_info(name, FLOAT, shape)


def weight(name, *shape):
    return numpy_helper.from_array(np.ones(shape, np.float32), name)


def written(folder, nodes, inputs=("x",), outputs=("y",), weights=(), *, shape=(8, 64), functions=(), domains=()):
    graph = helper.make_graph(nodes, "g", [value(i, shape) for i in inputs], [value(o) for o in outputs], weights)
    opsets = [helper.make_opsetid(domain, 1 if domain else 23) for domain in ("", *domains)]
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, functions=list(functions)), path)
    return path


def matmul(inputs=("x", "fc.weight"), output="y", name="product"):
    return helper.make_node("MatMul", inputs, [output], name=name)


def test_a_float_file_is_judged_as_export_would_quantize_it(tmp_path):
    path = written(tmp_path, [matmul()], weights=[weight("fc.weight", 64, 48)])
    checked = check(path)
    (layer,) = checked.layers
    assert (layer.name, layer.kind, layer.shape, layer.precision) == ("fc", "MatMul", (48, 64), "nvfp4")
    assert not checked.quantized


def test_advice_is_given_to_large_layers(tmp_path):
    shapes = {"odd": (256, 257), "ragged": (257, 512), "last": (512, 512)}
    weights = [weight(f"{name}.weight", *shape) for name, shape in shapes.items()]
    through = ["x", "a", "b", "y"]
    nodes = [matmul((through[i], w.name), through[i + 1], f"n{i}") for i, w in enumerate(weights)]
    found = check(written(tmp_path, nodes, weights=weights, shape=(8, 256))).layers
    assert {layer.name: layer.code for layer in found} == {
        "odd": "odd-n",
        "ragged": "k-not-blocks",
        "last": "sensitive",
    }


@pytest.mark.parametrize("name", ["層.weight", "[bold]x[/bold].weight", "<script>.weight", "a\nb.weight"])
def test_any_name_will_do(tmp_path, name):
    path = written(tmp_path, [matmul(("x", name))], weights=[weight(name, 64, 48)])
    assert check(path).layers[0].name == name.removesuffix(".weight")


@pytest.mark.parametrize("shape", [None, ("batch", "length", 64), (), (64,)])
def test_shapes_of_inputs_may_be_missing_or_odd(tmp_path, shape):
    path = written(tmp_path, [matmul()], weights=[weight("fc.weight", 64, 48)], shape=shape)
    assert check(path).layers[0].precision == "nvfp4"


def test_without_any_shape_there_is_still_a_row(tmp_path):
    path = written(tmp_path, [matmul(("x", "z"))], inputs=("x", "z"), shape=None)
    assert check(path).layers[0].code == "two-activations"


@pytest.mark.parametrize("shapes", [((0, 64), (64, 8)), ((8, 0), (0, 8)), ((8, 64), (64, 0))])
def test_a_dimension_of_zero_has_nothing_to_compute(tmp_path, shapes):
    path = written(tmp_path, [matmul()], weights=[weight("fc.weight", *shapes[1])], shape=shapes[0])
    assert check(path).layers[0].code == "empty"


@pytest.mark.parametrize(
    ("op", "inputs", "weights", "code"),
    [
        ("MatMul", ("w", "x"), {"w": (8, 8)}, "weight-left"),
        ("MatMul", ("x", "w"), {"w": (4, 64, 64)}, "weight-rank"),
        ("MatMul", ("w", "v"), {"w": (4, 64), "v": (64, 4)}, "constants"),
        ("MatMul", ("x", "v"), {"v": (64,)}, "n-one"),
        ("Einsum", ("x", "w"), {"w": (64, 64)}, "hidden-products"),
        ("MatMulInteger", ("x", "w"), {"w": (64, 64)}, "other-quantization"),
    ],
)
def test_products_that_export_does_not_take(tmp_path, op, inputs, weights, code):
    path = written(
        tmp_path,
        [helper.make_node(op, inputs, ["y"])],
        weights=[weight(n, *shape) for n, shape in weights.items()],
    )
    assert check(path).layers[0].code == code


def test_products_in_branches_are_found(tmp_path):
    branch = helper.make_graph([matmul(output="z", name="inner")], "branch", [], [value("z")])
    nodes = [helper.make_node("If", ["go"], ["y"], then_branch=branch, else_branch=branch)]
    go = helper.make_tensor("go", TensorProto.BOOL, [], [True])
    path = written(tmp_path, nodes, weights=[go, weight("fc.weight", 64, 48)])
    assert [layer.name for layer in check(path).layers] == ["fc", "fc"]


def function(name, *nodes, domain="mine"):
    opsets = [helper.make_opsetid("", 23), helper.make_opsetid("mine", 1)]
    return helper.make_function(domain, name, ["a", "b"], ["c"], list(nodes), opsets)


def test_products_in_functions_are_found(tmp_path):
    calls = [helper.make_node("Layer", ["x", "fc.weight"], ["y"], domain="mine")]
    layer = function("Layer", matmul(("a", "b"), "c"))
    weights = [weight("fc.weight", 64, 48)]
    path = written(tmp_path, calls, weights=weights, functions=[layer], domains=["mine"])
    assert [layer.name for layer in check(path).layers] == ["fc"]


def test_a_domain_without_functions_is_refused_by_tensorrt(tmp_path):
    nodes = [helper.make_node("MyGemm", ["x", "fc.weight"], ["y"], domain="mine")]
    path = written(tmp_path, nodes, weights=[weight("fc.weight", 64, 48)], domains=["mine"])
    assert check(path).layers[0].code == "foreign-operator"


def test_a_function_that_calls_itself_is_an_error(tmp_path):
    again = function("Again", helper.make_node("Other", ["a", "b"], ["c"], domain="mine"))
    other = function("Other", helper.make_node("Again", ["a", "b"], ["c"], domain="mine"))
    nodes = [helper.make_node("Again", ["x", "x"], ["y"], domain="mine")]
    path = written(tmp_path, nodes, functions=[again, other], domains=["mine"])
    with pytest.raises(OnnxInvalidError, match=r"mine:(Again|Other) calls itself"):
        check(path)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([matmul(("x", "b"), "a"), matmul(("x", "a"), "b"), matmul(("a", "b"))], "cyclic, or not sorted"),
        ([matmul(("x", "y"))], "cyclic, or not sorted"),
        ([matmul(("x", "nowhere"))], "reads 'nowhere', which is made by nothing"),
        ([matmul(("x", "x")), matmul(("x", "x"))], "two nodes make 'y'"),
        ([matmul(("x", "x"), "z")], "nothing makes its output 'y'"),
    ],
)
def test_a_broken_graph_is_one_error(tmp_path, nodes, message):
    with pytest.raises(OnnxInvalidError, match=message):
        check(written(tmp_path, nodes))


def test_missing_operands_and_outputs_are_passed_over(tmp_path):
    nodes = [helper.make_node("MatMul", ["x"], ["y"]), helper.make_node("Gemm", ["x", ""], ["z"])]
    assert check(written(tmp_path, [*nodes, helper.make_node("MatMul", ["x", "x"], [])])).layers == ()


def test_every_cut_of_a_file_is_one_error(tmp_path):
    path = written(tmp_path, [matmul()], weights=[weight("fc.weight", 64, 48)])
    whole = path.read_bytes()
    for size in [*range(64), *range(64, len(whole) - 1, 501)]:
        path.write_bytes(whole[:size])
        with pytest.raises((FileTruncatedError, NotAModelError)):
            check(path)


@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4),
    st.sampled_from(["float", "quantized"]),
)
@settings(max_examples=150)
def test_any_damage_is_a_table_or_one_error(tmp_path_factory, damage, kind):
    folder = tmp_path_factory.mktemp("damaged", numbered=True)
    if kind == "float":
        path = written(folder, [matmul()], weights=[weight("fc.weight", 4, 4)], shape=(2, 4))
    else:
        path = folder / "model.onnx"
        onnx.save(FORMS["gemm with bias"]().made, path)
    content = bytearray(path.read_bytes())
    for at, byte in damage:
        content[at % len(content)] = byte
    path.write_bytes(content)
    with contextlib.suppress(Nvfp4Error):
        check(path)


def test_a_name_that_is_no_text_is_one_error(tmp_path):
    path = written(tmp_path, [matmul()], weights=[weight("fc.weight", 64, 48)])
    path.write_bytes(path.read_bytes().replace(b"MatMul", b"Mat\xffMu"))
    with pytest.raises(OnnxInvalidError, match=r"op_type .* is not UTF-8"):
        check(path)


@pytest.mark.parametrize("content", [b"text", b"\x00" * 100, b"\xff" * 100, b"PK\x03\x04"])
def test_what_is_no_onnx_file_is_one_error(tmp_path, content):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(NotAModelError):
        check(path)


def test_a_missing_file_is_one_error(tmp_path):
    with pytest.raises(FileMissingError):
        check(tmp_path / "none.onnx")


def test_ten_thousand_nodes_are_walked_once(tmp_path):
    names = ["x", *(f"t{i}" for i in range(10_000)), "y"]
    relus = [helper.make_node("Relu", [a], [b]) for a, b in pairwise(names[:-1])]
    nodes = [*relus, matmul((names[-2], "fc.weight"))]
    assert check(written(tmp_path, nodes, weights=[weight("fc.weight", 64, 48)])).layers[0].precision == "nvfp4"


def test_external_weights_are_not_even_looked_for(tmp_path):
    far = weight("fc.weight", 64, 48)
    far.ClearField("raw_data")
    far.data_location = TensorProto.EXTERNAL
    far.external_data.add(key="location", value="nowhere.data")
    assert check(written(tmp_path, [matmul()], weights=[far])).layers[0].precision == "nvfp4"


def test_an_onnx_file_needs_no_torch(tmp_path):
    import subprocess

    path = written(tmp_path, [matmul()], weights=[weight("fc.weight", 64, 48)])
    code = f"import sys, nvfp4_trt; nvfp4_trt.check({str(path)!r}); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
