"""Walking back from a value to one source, and evaluating what lies between."""

import numpy as np
from graphs import linear

from nvfp4_trt.passes.formulas import LONGEST, pieces, positions


def pieces_of(body, **arguments):
    model = linear(body, **arguments)
    quantize = next(node for node in model.graph if node.op_type == "PerTokenScale")
    return list(pieces(quantize.inputs[0], positions(model.graph), reductions=True))


def test_pieces_grow_from_the_end():
    found = pieces_of("a = Tanh(x) b = Mul(a, a) y = Neg(b)")
    assert [piece.source.name for piece in found] == ["b", "a", "x"]
    assert [[node.op_type for node in piece.nodes] for piece in found] == [
        ["Neg"],
        ["Neg", "Mul"],
        ["Neg", "Mul", "Tanh"],
    ]


def test_a_piece_has_one_source():
    assert [piece.source.name for piece in pieces_of("q = Sigmoid(x) p = Neg(q) y = Mul(p, x)")] == ["x"]
    assert not pieces_of("y = Mul(x, u)", inputs=("x", "u"))


def test_sources_have_the_shape_and_dtype_of_the_end():
    last = {"last": np.array([-1], np.int64)}
    found = pieces_of("m = ReduceMean<keepdims = 1>(x, last) y = Sub(x, m)", constants=last)
    assert [piece.source.name for piece in found] == ["x"]
    found = pieces_of("f = Cast<to = 1>(x) g = Neg(f) y = Cast<to = 10>(g)", dtype="float16")
    assert [piece.source.name for piece in found] == ["x"]


def test_other_operators_end_the_walk():
    assert [piece.source.name for piece in pieces_of("a = Softmax(x) y = Neg(a)")] == ["a"]


def test_the_walk_has_an_end():
    steps = " ".join(f"a{i} = Neg(a{i - 1})" for i in range(1, 2 * LONGEST))
    found = pieces_of(f"a0 = Neg(x) {steps} y = Neg(a{2 * LONGEST - 1})")
    assert len(found) == LONGEST


def test_evaluation_is_in_fp64_with_the_graphs_constants():
    (piece,) = pieces_of(
        "d = Div(x, c(3.0)) e = Erf(d) p = Pow(e, c(2.0)) s = Add(p, x) y = Mul(s, row)",
        constants={"row": np.linspace(1, 2, 32).astype(np.float32)},
    )[-1:]
    x = np.linspace(-2, 2, 64).reshape(2, 32)
    from math import erf

    expected = (np.vectorize(erf)(x / 3.0) ** 2 + x) * np.linspace(1, 2, 32).astype(np.float32)
    np.testing.assert_allclose(piece.evaluate(x), expected, rtol=1e-14)
    assert [value.const_value.size for value in piece.constants()] == [1, 1, 32]
