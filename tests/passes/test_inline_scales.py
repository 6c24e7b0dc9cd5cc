import numpy as np
import pytest
from both_sides import CASES, apply, around, assert_same_bits, prefix

from nvfp4_trt.building import build_engine
from nvfp4_trt.passes import InlineScales
from nvfp4_trt.portable import DOMAIN, is_ours

RUN_TIME = {"w4a4-dynamic", "w4a4-dynamic-token"}


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_meaning_is_unchanged(portable, case):
    assert_same_bits(around(InlineScales, portable(*case)))


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_only_standard_operators_and_tensorrts_are_left(portable, case):
    scales = sum(is_ours(n) for n in prefix(InlineScales, portable(*case).path).graph)
    run = around(InlineScales, portable(*case))
    assert run.changes == scales
    assert (scales > 0) == (case[1] in RUN_TIME)
    assert {node.domain for node in run.model.graph} <= {"", "trt"}
    assert DOMAIN not in run.model.graph.opset_imports
    assert all(key[0] == "trt" for key in run.model.functions)


@pytest.mark.parametrize("recipe", sorted(RUN_TIME))
def test_inlined_nodes_are_named_after_the_scale(portable, recipe):
    exported = portable("heads", recipe)
    scales = {n.name for n in prefix(InlineScales, exported.path).graph if is_ours(n)}
    run = around(InlineScales, exported)
    for scale in scales:
        kinds = {n.op_type for n in run.model.graph if (n.name or "").startswith(f"{scale}/")}
        assert {"Abs", "ReduceMax", "Clip", "Div"} <= kinds


@pytest.mark.parametrize("recipe", sorted(RUN_TIME))
@pytest.mark.parametrize("name", ["rows", "heads"])
def test_names_are_unique(portable, name, recipe):
    run = around(InlineScales, portable(name, recipe))
    names = [node.name for node in run.model.graph]
    assert len(names) == len(set(names))
    values = [value.name for node in run.model.graph for value in node.outputs]
    assert len(values) == len(set(values))


def test_no_run_time_scale_nothing_inlined(portable):
    model = prefix(InlineScales, portable("heads", "w4a4-static").path)
    nodes = [(node.op_type, node.name) for node in model.graph]
    assert InlineScales().run(model) == 0
    assert [(node.op_type, node.name) for node in model.graph] == nodes


@pytest.mark.parametrize("magnitude", [0.0, 1e-38, 1e-30, 1e30, 3e38])
def test_far_magnitudes(portable, magnitude):
    model = prefix(InlineScales, portable("bare").path)
    x = np.full((1, 2, 64), magnitude, np.float32)
    run = apply(InlineScales, model, {"input": x})
    (before,), (after,) = run.before.values(), run.after.values()
    # Below 2^-117 the portable scale is 1 and the codes are zeros; inside TensorRT the scale is 2^-117.
    assert np.allclose(before, after, rtol=1e-6, atol=1e-30)


def test_infinity_saturates_and_nan_reaches_its_row_alone(portable):
    model = prefix(InlineScales, portable("rows").path)
    x = np.ones((3, 64), np.float32)
    x[0, 3], x[1, 5] = np.inf, np.nan
    run = apply(InlineScales, model, {"input": x})
    (after,) = run.after.values()
    assert np.isnan(after[1]).all()
    assert np.isfinite(after[2]).all()


@pytest.mark.long
def test_no_activation_is_kept_in_fp32(portable, tmp_path):
    """Of a Cast in front of the maximum, TensorRT keeps the fp32 tensor for the kernel that quantizes."""
    path = portable("rows", "w4a4-dynamic-token", "float16").path
    engine = build_engine(path, tmp_path / "e.engine", backend="tensorrt_rtx", optimize="fast")
    assert engine.record.form == "blocks"
    outputs = [operand for row in engine.record.rows for operand in row.outputs]
    assert {operand.dims[-1] for operand in outputs if operand.dtype == "Float"} == {1}
    assert {operand.dims[-1] for operand in outputs if operand.dtype == "FP4E2M1"} == {64, 48}
