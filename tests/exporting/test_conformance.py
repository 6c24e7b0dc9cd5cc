"""The `nvfp4` function bodies, run by two ONNX implementations, against the codec in torch: bit for bit."""

import numpy as np
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from nvfp4_trt import format as fmt
from nvfp4_trt.exporting.translate import rule_attributes, scale_attributes
from nvfp4_trt.portable import DOMAIN, OPSET, VERSION, portable_functions
from nvfp4_trt.recipe import RuleName

ONNX_TYPES = {
    torch.float32: TensorProto.FLOAT,
    torch.float16: TensorProto.FLOAT16,
    torch.bfloat16: TensorProto.BFLOAT16,
    torch.uint8: TensorProto.UINT8,
    torch.float8_e4m3fn: TensorProto.FLOAT8E4M3FN,
}
SAME_WIDTH = {4: torch.float32, 2: torch.int16, 1: torch.uint8}
DTYPES = tuple(ONNX_TYPES)[:3]
SHAPES = ((32,), (5, 48), (2, 3, 64), (2, 2, 3, 16))
RULES = tuple(str(rule) for rule in RuleName)
NAN, INF = float("nan"), float("inf")


def model(op, inputs, outputs, attributes):
    """Return a model of one node; every value is (name, torch dtype)."""
    node = helper.make_node(op, [n for n, _ in inputs], [n for n, _ in outputs], domain=DOMAIN, **attributes)
    graph = helper.make_graph(
        [node],
        "one",
        *([helper.make_tensor_value_info(n, ONNX_TYPES[d], None) for n, d in some] for some in (inputs, outputs)),
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)]
    return helper.make_model(graph, functions=[portable_functions()[op]], opset_imports=opsets, ir_version=11)


def bits(tensor):
    return tensor.contiguous().view(torch.uint8) if tensor.dim() else tensor.reshape(1).view(torch.uint8)


def on_onnxruntime(made, feeds):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    values = {}
    for name, tensor in feeds.items():
        raw = tensor.contiguous().view({4: torch.float32, 2: torch.uint16, 1: torch.uint8}[tensor.element_size()])
        values[name] = ort.OrtValue.ortvalue_from_numpy_with_onnx_type(raw.numpy(), ONNX_TYPES[tensor.dtype])
    found = session.run_with_ort_values(None, values)
    return [torch.utils.dlpack.from_dlpack(v) if "bfloat16" in v.data_type() else v.numpy() for v in found]


def on_reference(made, feeds):
    arrays = {}
    for name, tensor in feeds.items():
        dtype = helper.tensor_dtype_to_np_dtype(ONNX_TYPES[tensor.dtype])
        raw = tensor.contiguous().view(SAME_WIDTH[tensor.element_size()])
        arrays[name] = raw.numpy().view(dtype)
    with np.errstate(all="ignore"):
        return ReferenceEvaluator(made).run(None, arrays)


EVALUATORS = {"onnxruntime": on_onnxruntime, "reference": on_reference}


def raw_bytes(array):
    return (
        array.contiguous().view(torch.uint8).numpy().tobytes()
        if torch.is_tensor(array)
        else np.asarray(array).tobytes()
    )


def assert_same_bits(found, expected):
    for got, wanted in zip(found, expected, strict=True):
        assert tuple(got.shape) == tuple(wanted.shape)
        assert raw_bytes(got) == bits(wanted).numpy().tobytes()


def special(dtype):
    """Rows of 64 that hold what could go wrong, one kind a row or a block."""
    rows = torch.randn(17, 64, generator=torch.Generator().manual_seed(1))
    rows[0] = 0.0
    rows[1] = -0.0
    rows[2, :16] = 0.0
    rows[3, 20] = NAN
    rows[4, 5], rows[4, 37] = INF, -INF
    rows[5] = INF
    rows[6] = NAN
    rows[7] *= 2.0**-140  # fp32 subnormals
    rows[8] *= 2.0**-115  # on both sides of the smallest scale
    rows[9] *= 1e30
    rows[10] = torch.arange(64) % 25 / 4 - 3.0  # ties of e2m1 for scales that are powers of two
    rows[10, ::16] = 6.0
    rows[11, 0] = 2688.0
    rows[12] **= 7
    rows[13, 16:32] *= 1e-6  # block scales that are e4m3 subnormals, or 0
    rows[14, ::3] *= -0.0
    rows[15] = 3.4028234663852886e38
    rows[16] = torch.tensor([1.0, -1.0]).repeat(32) * 2.0**-24
    return rows.to(dtype)


def plain(shape, dtype):
    return (torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))) ** 5).to(dtype)


def tensors(dtype):
    return [special(dtype), *(plain(shape, dtype) for shape in SHAPES)]


def scales(x, rule):
    return [
        fmt.per_tensor_scale(x, rule),
        fmt.per_token_scale(x, rule),
        torch.tensor(1e-3),
    ]


@pytest.mark.parametrize("evaluate", EVALUATORS.values(), ids=EVALUATORS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("rule", RULES)
def test_run_time_scales(rule, dtype, evaluate):
    for op, codec in (("PerTensorScale", fmt.per_tensor_scale), ("PerTokenScale", fmt.per_token_scale)):
        made = model(op, [("x", dtype)], [("scale", torch.float32)], scale_attributes(rule))
        rows = list(special(dtype))
        for x in [*tensors(dtype), *(rows if op == "PerTensorScale" else [])]:
            assert_same_bits(evaluate(made, {"x": x}), [codec(x, fmt.scale_rule(rule))])


@pytest.mark.parametrize("evaluate", EVALUATORS.values(), ids=EVALUATORS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("rule", RULES)
def test_quantize(rule, dtype, evaluate):
    codes = [("packed", torch.uint8), ("block_scale", torch.float8_e4m3fn)]
    which, attributes = fmt.scale_rule(rule), rule_attributes(rule)
    two = model("Quantize", [("x", dtype), ("scale", torch.float32)], codes, attributes)
    one = model("QuantizeSingleLevel", [("x", dtype)], codes, attributes)
    for x in tensors(dtype):
        for scale in scales(x, which):
            assert_same_bits(evaluate(two, {"x": x, "scale": scale}), fmt.quantize(x, scale, which))
        assert_same_bits(evaluate(one, {"x": x}), fmt.quantize(x, None, which))


@pytest.mark.parametrize("evaluate", EVALUATORS.values(), ids=EVALUATORS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dequantize(dtype, evaluate):
    codes = [("packed", torch.uint8), ("block_scale", torch.float8_e4m3fn)]
    attributes = {"dtype": ONNX_TYPES[dtype]}
    two = model("Dequantize", [*codes, ("scale", torch.float32)], [("y", dtype)], attributes)
    one = model("DequantizeSingleLevel", codes, [("y", dtype)], attributes)
    for x in tensors(torch.float32):
        for scale in scales(x, fmt.SPEC):
            packed, block_scale = fmt.quantize(x, scale)
            feeds = {"packed": packed, "block_scale": block_scale, "scale": scale}
            assert_same_values(evaluate(two, feeds), fmt.dequantize(packed, block_scale, scale, dtype))
        packed, block_scale = fmt.quantize(x, None)
        feeds = {"packed": packed, "block_scale": block_scale}
        assert_same_values(evaluate(one, feeds), fmt.dequantize(packed, block_scale, None, dtype))


def assert_same_values(found, expected):
    """Compare bits, except that one NaN is as good as another."""
    (got,) = found
    made = torch.frombuffer(bytearray(raw_bytes(got)), dtype=expected.dtype).reshape(expected.shape)
    assert torch.equal(made.isnan(), expected.isnan())
    assert torch.equal(
        bits(made.nan_to_num(nan=7.0, posinf=INF, neginf=-INF)),
        bits(expected.nan_to_num(nan=7.0, posinf=INF, neginf=-INF)),
    )


@pytest.mark.parametrize("evaluate", EVALUATORS.values(), ids=EVALUATORS)
def test_every_byte_and_every_block_scale(evaluate):
    codes = [("packed", torch.uint8), ("block_scale", torch.float8_e4m3fn)]
    made = model("DequantizeSingleLevel", codes, [("y", torch.float32)], {"dtype": TensorProto.FLOAT})
    packed = torch.arange(256, dtype=torch.uint8).repeat(256, 1)
    block_scale = torch.arange(256, dtype=torch.uint8)[:, None].repeat(1, 32).view(torch.float8_e4m3fn)
    feeds = {"packed": packed, "block_scale": block_scale}
    assert_same_values(evaluate(made, feeds), fmt.dequantize(packed, block_scale, None))


@pytest.mark.parametrize("evaluate", EVALUATORS.values(), ids=EVALUATORS)
@pytest.mark.parametrize("scale", [2.0**-11, 1.0, 3e-5])
def test_every_fp16_pattern(scale, evaluate):
    codes = [("packed", torch.uint8), ("block_scale", torch.float8_e4m3fn)]
    inputs = [("x", torch.float16), ("scale", torch.float32)]
    made = model("Quantize", inputs, codes, rule_attributes("spec"))
    ordered = torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16).view(torch.float16)
    shuffled = ordered[torch.randperm(65536, generator=torch.Generator().manual_seed(0))]
    # In order, a block holds neighbours; shuffled, magnitudes of all sizes; and NaN is in few blocks of both.
    for x in (
        ordered.reshape(64, 1024),
        shuffled.reshape(64, 1024),
        shuffled.nan_to_num(nan=0.0).reshape(16, 4096),
    ):
        feeds = {"x": x, "scale": torch.tensor(scale)}
        assert_same_bits(evaluate(made, feeds), fmt.quantize(x, torch.tensor(scale)))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_token_does_not_depend_on_its_batch(dtype):
    codes = [("packed", torch.uint8), ("block_scale", torch.float8_e4m3fn)]
    scale_of = model("PerTokenScale", [("x", dtype)], [("scale", torch.float32)], scale_attributes("spec"))
    quantize = model("Quantize", [("x", dtype), ("scale", torch.float32)], codes, rule_attributes("spec"))

    def torch_codec(x):
        scale = fmt.per_token_scale(x)
        return [scale, *fmt.quantize(x, scale)]

    def onnxruntime(x):
        (scale,) = on_onnxruntime(scale_of, {"x": x})
        return [scale, *on_onnxruntime(quantize, {"x": x, "scale": torch.from_numpy(scale)})]

    row = torch.randn(1, 64, generator=torch.Generator().manual_seed(2)).to(dtype)
    for run in (torch_codec, onnxruntime):
        alone = [raw_bytes(part) for part in run(row)]
        for neighbours in (torch.zeros(3, 64), torch.full((1, 64), 6e4), special(torch.float32)):
            batch = torch.cat([neighbours.to(dtype), row, neighbours.to(dtype)])
            assert [raw_bytes(part[len(neighbours)]) for part in run(batch)] == alone
