import itertools

import ml_dtypes
import numpy as np
import onnx
import pytest
from both_sides import CASES, apply, around, assert_leaves_alone, assert_same_bits, error, evaluate, prefix
from onnx.reference import ReferenceEvaluator

from nvfp4_trt.passes import TensorRTQuantizers
from nvfp4_trt.passes.trt_functions import TRT_DOMAIN, TRT_QUANTIZE
from nvfp4_trt.portable import is_ours


def exact(case):
    """A scale that is a power of two commutes with rounding; a calibrated one does not."""
    return not (case[1] == "w4a4-static" and case[2] == "float32")


@pytest.mark.parametrize("case", [c for c in CASES if exact(c)], ids="-".join)
def test_meaning_is_unchanged(portable, case):
    assert_same_bits(around(TensorRTQuantizers, portable(*case)))


@pytest.mark.parametrize("case", [c for c in CASES if not exact(c)], ids="-".join)
def test_a_calibrated_scale_differs_by_one_rounding(portable, case):
    run = around(TensorRTQuantizers, portable(*case))
    assert error(run) < 2**-21  # measured: 3.7e-8


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_no_quantizer_of_ours_is_left(portable, case):
    before = sum(is_ours(n, {"Quantize"}) for n in prefix(TensorRTQuantizers, portable(*case).path).graph)
    run = around(TensorRTQuantizers, portable(*case))
    found = [n for n in run.model.graph if (n.domain, n.op_type) == (TRT_DOMAIN, TRT_QUANTIZE)]
    assert run.changes == before == len(found)
    assert not [n for n in run.model.graph if is_ours(n, {"Quantize", "Dequantize"})]
    for node in found:
        assert {name: a.as_int() for name, a in node.attributes.items()} == {
            "axis": -1,
            "block_size": 16,
            "scale_type": onnx.TensorProto.FLOAT8E4M3FN,
        }


def test_weight_only_is_left(portable):
    assert_leaves_alone(TensorRTQuantizers, prefix(TensorRTQuantizers, portable("heads", "w4a16").path))


@pytest.mark.parametrize("name", ["rows", "heads"])
def test_nan_poisons_its_block_alone(portable, name):
    exported = portable(name, "w4a4-static")
    (key, x), *_ = exported.feeds.items()
    x = x.copy()
    x[(0,) * x.ndim] = np.nan
    run = apply(TensorRTQuantizers, prefix(TensorRTQuantizers, exported.path), {key: x})
    for output, array in run.before.items():
        assert np.array_equal(np.isnan(array), np.isnan(run.after[output]))


CAST = """<ir_version: 11, opset_import: ["": 23]>
g (float[N] x) => (float[N] y) {{ narrow = Cast<to = {to}>(x)  y = Cast<to = 1>(narrow) }}"""


@pytest.mark.parametrize(
    ("to", "dtype"),
    [
        (onnx.TensorProto.FLOAT4E2M1, ml_dtypes.float4_e2m1fn),
        (onnx.TensorProto.FLOAT8E4M3FN, ml_dtypes.float8_e4m3fn),
    ],
    ids=["float4", "float8"],
)
def test_the_evaluators_own_casts_can_be_trusted(to, dtype):
    """On every representable value, every tie and both sides of it, within the range that the bodies use."""
    codes = np.arange(2 ** (4 if dtype is ml_dtypes.float4_e2m1fn else 8), dtype=np.uint8)
    values = np.unique(codes.view(dtype).astype(np.float32))
    values = values[np.isfinite(values)]
    ties = np.array([(a + b) / 2 for a, b in itertools.pairwise(values)], np.float32)
    x = np.concatenate([values, ties, np.nextafter(ties, np.float32(-1e9)), np.nextafter(ties, np.float32(1e9))])
    (y,) = ReferenceEvaluator(onnx.parser.parse_model(CAST.format(to=to))).run(None, {"x": x})
    assert np.array_equal(y, x.astype(dtype).astype(np.float32))


def test_the_lowered_quantizer_is_what_the_evaluator_runs(portable):
    """Without the function of that name the evaluator does not know the operator: the body is what ran."""
    exported = portable("rows")
    model = around(TensorRTQuantizers, exported).model
    for key in [k for k in model.functions if k[0] == TRT_DOMAIN]:
        del model.functions[key]
    with pytest.raises(NotImplementedError, match=TRT_QUANTIZE):
        evaluate(model, exported.feeds)
