"""Running a graph before and after a pass, on the ONNX reference evaluator."""

from typing import NamedTuple

import numpy as np
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from nvfp4_trt.passes import PIPELINE, LoweringPass
from nvfp4_trt.portable import load

CASES = [
    *((name, "w4a4-dynamic-token", "float32") for name in ("rows", "bare", "rank4", "mlp", "gpt2", "encoder")),
    *(("heads", recipe, "float32") for recipe in ("w4a4-dynamic", "w4a4-dynamic-token", "w4a4-static")),
    *(("heads", recipe, "float32") for recipe in ("w4a4-single-level", "w4a16")),
    *((name, "w4a4-dynamic-token", "float16") for name in ("rows", "heads", "rank4")),
    *(("heads", recipe, "float16") for recipe in ("w4a4-dynamic", "w4a4-static", "w4a4-single-level")),
    ("rows", "w4a4-dynamic-token", "bfloat16"),
    ("heads", "w4a4-static", "bfloat16"),
]


def product(a, b):
    """Multiply with one order of summation whatever the rank: NumPy's own loop, in extended precision.

    What BLAS adds up in which order depends on the shape, which would hide whether a pass is exact.
    """
    wide = [x.astype(np.float32).astype(np.longdouble) for x in (a, b)]
    return (wide[0] @ wide[1]).astype(np.float32).astype(a.dtype)


class MatMul(OpRun):
    op_domain = ""

    def _run(self, a, b):
        return (product(a, b),)


class Gemm(OpRun):
    op_domain = ""

    def _run(self, a, b, c=None, alpha=None, beta=None, transA=None, transB=None):  # noqa: N803
        if (alpha, beta) != (1.0, 1.0):
            raise NotImplementedError("only what torch writes for a linear layer")
        made = product(a.T if transA else a, b.T if transB else b)
        return (made if c is None else (made + c).astype(made.dtype),)


def evaluate(model, feeds):
    """Return the outputs by name; NumPy's warnings are of the bodies' masked branches (a division by 0)."""
    with np.errstate(all="ignore"):
        evaluator = ReferenceEvaluator(ir.to_proto(model), new_ops=[MatMul, Gemm])
        return dict(zip(evaluator.output_names, evaluator.run(None, feeds), strict=True))


class Run(NamedTuple):
    changes: int
    before: dict[str, np.ndarray]
    after: dict[str, np.ndarray]
    model: ir.Model
    """After the pass."""


def prefix(kind: type[LoweringPass], path) -> ir.Model:
    """Load a portable file and run the passes that come before `kind`."""
    model, _ = load(path)
    for earlier in PIPELINE[: PIPELINE.index(kind)]:
        earlier().run(model)
    return model


def around(kind: type[LoweringPass], exported) -> Run:
    """Run a pass where it stands in the pipeline, and the graph on both sides of it."""
    model = prefix(kind, exported.path)
    before = evaluate(model, exported.feeds)
    changes = kind().run(model)
    return Run(changes, before, evaluate(model, exported.feeds), model)


def apply(kind: type[LoweringPass], model, feeds) -> Run:
    """Run a pass on a graph made by hand."""
    before = evaluate(model, feeds)
    changes = kind().run(model)
    return Run(changes, before, evaluate(model, feeds), model)


def assert_same_bits(run: Run) -> None:
    assert run.before.keys() == run.after.keys()
    for name, array in run.before.items():
        assert array.dtype == run.after[name].dtype
        assert array.shape == run.after[name].shape
        assert array.tobytes() == run.after[name].tobytes(), name


def as_text(model) -> str:
    return ir.to_proto(model).SerializeToString().hex()


def assert_leaves_alone(kind: type[LoweringPass], model) -> None:
    """Assert that a pass changes nothing, and says so."""
    before = as_text(model)
    assert kind().run(model) == 0
    assert as_text(model) == before


def error(run: Run) -> float:
    """Return the largest difference, as a share of the largest value of its output."""
    return max(
        float(np.abs(a - b).max() / np.abs(a).max())
        for a, b in ((x.astype(np.float64), run.after[name].astype(np.float64)) for name, x in run.before.items())
    )
