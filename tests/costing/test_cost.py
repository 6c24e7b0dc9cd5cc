import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from nvfp4_trt.auditing import Operand, Row
from nvfp4_trt.costing import GPUS, TensorShapes, cost_engine

GPU = GPUS["rtx5090"]
FP32, FP4, FP8 = 4, 0.5, 1


def _tiles(rows: int, k: int) -> int:
    """Bytes of block scales in tiles: rows up to a multiple of 128, columns up to one of 4."""
    return -(-rows // 128) * 128 * -(-k // 64) * 4 * FP8


def _linear(m: int, k: int, n: int) -> float:
    """Bytes of a linear layer's own kernels: the quantizer, the swizzle with its padding, the GEMM."""
    columns = k // 16
    quantize = m * k * FP32 + m * k * FP4 + m * columns
    padding = (128 - m) * -(-columns // 4) * 4 + m * (-columns % 4)
    swizzle = m * columns + padding + _tiles(m, k)
    gemm = m * k * FP4 + _tiles(m, k) + k * n * FP4 + _tiles(n, k) + 2 * FP32 + m * n * FP32
    return quantize + swizzle + gemm


def _scale(m: int, k: int) -> int:
    """Bytes that the kernel in front of a quantizer writes (the shifted rows and their scales), and its floor."""
    return m * k * FP32 + m * FP32 + FP32


def test_bytes_of_one_linear_are_those_counted_by_hand(engine):
    cost = engine("bare", "batch=2", "sequence=5").cost()
    m, k, n = 10, 64, 48
    first = m * k * FP32 + _scale(m, k)
    last = m * n * FP32 + m * FP32 + m * n * FP32
    assert cost.bytes == first + _linear(m, k, n) + last
    assert (
        cost.bytes
        == cost.read_bytes + cost.written_bytes
        == sum(r.read_bytes + r.written_bytes for r in cost.rows)
    )
    assert cost.flops == {"fp4": 2 * m * k * n}
    assert cost.unresolved == 0


def test_bytes_of_an_mlp_are_those_counted_by_hand(engine):
    cost = engine("rows", "batch=3").cost()
    m, k, h, n = 3, 64, 48, 40
    first = m * k * FP32 + _scale(m, k)
    between = m * h * FP32 + m * FP32 + FP32 + h * FP32 + _scale(m, h)  # scale, bias, GELU and its constant
    last = m * n * FP32 + m * FP32 + n * FP32 + m * n * FP32
    assert cost.bytes == first + _linear(m, k, h) + between + _linear(m, h, n) + last
    assert cost.flops == {"fp4": 2 * m * (k * h + h * n)}


@pytest.mark.parametrize(
    ("name", "dims"), [("bare", ("batch=2", "sequence=5")), ("heads", ("batch=1:6:12", "sequence=1:18:64"))]
)
def test_kernels_are_those_of_the_audit(engine, name, dims):
    built = engine(name, *dims)
    cost = built.cost()
    assert cost.kernels == built.record.audit.kernels
    assert cost.kernels + cost.waits == len(built.record.rows) == len(cost.rows)
    assert cost.operands == sum(len(r.inputs) + len(r.constants) + len(r.outputs) for r in built.record.rows)


def test_operations_are_those_of_the_graph(engine):
    built = engine("heads", "batch=1:6:12", "sequence=1:18:64")
    assert sum(built.cost(8, 128).flops.values()) == sum(built.shapes(8, 128).flops.values())


def test_a_table_costs_the_rows_that_are_looked_up(engine):
    built = engine("gpt2", "batch=1:6:12", "sequence=1:18:64")
    few, many = built.cost(1, 1), built.cost(1, 4)
    looked_up = [(a, b) for a, b in zip(few.rows, many.rows, strict=True) if "Gath" in a.name]
    assert looked_up
    for row, more in looked_up:
        assert row.read_bytes < 320 * 64 * FP4  # the table's codes alone
        assert more.read_bytes > row.read_bytes
    unaware = cost_engine(built.record.rows, GPU, TensorShapes())
    assert max(r.read_bytes for r in unaware.rows if "Gath" in r.name) > 320 * 64 * FP4


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 40), st.integers(1, 200), st.integers(0, 20), st.integers(0, 60))
def test_cost_grows_with_the_shapes(engine, batch, sequence, more, longer):
    built = engine("heads", "batch=1:6:12", "sequence=1:18:64")
    small, large = built.cost(batch, sequence), built.cost(batch + more, sequence + longer)
    assert small.unresolved == large.unresolved == 0
    for a, b in zip(small.rows, large.rows, strict=True):
        assert a.read_bytes <= b.read_bytes
        assert a.written_bytes <= b.written_bytes
        assert a.flops <= b.flops
        assert a.microseconds <= b.microseconds
    assert (small.kernels, small.waits) == (large.kernels, large.waits)
    assert small.microseconds <= large.microseconds
    if more or longer:
        assert small.bytes < large.bytes


def _operand(name: str, dims: tuple[int, ...], dtype: str) -> Operand:
    return Operand(name=name, dims=dims, dtype=dtype)


def _gemm(m: int, k: int, n: int, left: str, right: str) -> Row:
    return Row(
        name="gemm",
        type="gemm",
        inputs=(_operand("a", (m, k), left),),
        constants=(_operand("b", (k, n), right),),
        outputs=(_operand("c", (m, n), "Half"),),
        onnx=(),
    )


def _only(*rows: Row):
    return cost_engine(rows, GPU, TensorShapes())


@pytest.mark.parametrize(
    ("left", "right", "precision"),
    [
        ("FP4E2M1", "FP4E2M1", "fp4"),
        ("Half", "FP4E2M1", "fp16"),
        ("FP8", "FP8", "fp8"),
        ("BFloat16", "BFloat16", "fp16"),
        ("Float", "Float", "fp32"),
    ],
)
def test_the_wider_side_gives_the_precision(left, right, precision):
    assert _only(_gemm(8, 64, 32, left, right)).flops == {precision: 2 * 8 * 64 * 32}


def test_a_kernel_takes_the_longer_of_its_operations_and_its_bytes_and_the_launch():
    square = 8192
    compute = _only(_gemm(square, square, square, "Half", "Half")).rows[0]
    assert compute.bound == "compute"
    assert compute.microseconds == pytest.approx(2 * square**3 / (GPU.fp16_tflops * 1e6) + GPU.launch_us)
    memory = _only(_gemm(1, square, square, "Half", "FP4E2M1")).rows[0]
    assert memory.bound == "memory"
    moved = square * 2 + square * square // 2 + square * 2
    assert (memory.read_bytes, memory.written_bytes) == (moved - square * 2, square * 2)
    assert memory.microseconds == pytest.approx(moved / (GPU.bandwidth_gbs * 1e3) + GPU.launch_us)
    assert _only(_gemm(1, 32, 32, "Half", "Half")).rows[0].bound == "launch"


@pytest.mark.parametrize("kind", ["wait", "signal", "reshape"])
def test_rows_that_start_no_kernel_cost_nothing_and_are_counted(kind):
    row = Row(name=kind, type=kind, inputs=(_operand("a", (64,), "Half"),), constants=(), outputs=(), onnx=())
    cost = _only(row)
    assert (cost.kernels, cost.waits, cost.bytes, cost.microseconds) == (0, 1, 0, 0)


def test_views_of_a_tensor_together_count_at_most_the_tensor():
    made = _operand("qkv", (3, 8, 64), "Half")
    view = _operand("qkv", (8, 64), "Half")
    maker = Row(name="maker", type="kgen", inputs=(), constants=(), outputs=(made,), onnx=())
    for views, read in ((3, 3), (2, 2), (5, 3)):
        taker = Row(name="taker", type="kgen", inputs=(view,) * views, constants=(), outputs=(), onnx=())
        assert _only(maker, taker).rows[1].read_bytes == read * 8 * 64 * 2


def test_fused_attention_counts_both_products():
    q, k, v = ((4, 16, 8), "q"), ((4, 8, 32), "k"), ((4, 32, 8), "v")
    row = Row(
        name="_gemm_mha_v2_myl0_5",
        type="kgen",
        inputs=tuple(_operand(name, dims, "Half") for dims, name in (q, k, v)),
        constants=(),
        outputs=(_operand("o", (4, 16, 8), "Half"),),
        onnx=(),
    )
    assert _only(row).flops == {"fp16": 2 * 4 * (16 * 32 * 8 + 16 * 32 * 8)}


def test_an_unknown_dtype_is_reported():
    cost = _only(_gemm(8, 64, 32, "Complex64", "Half"))
    assert cost.unresolved == 1


def test_the_brief_form_says_that_the_time_is_modelled(engine):
    cost = engine("bare", "batch=2", "sequence=5").cost()
    assert cost.brief() == {
        "gpu": "rtx5090",
        "kernels": cost.kernels,
        "waits": 0,
        "bytes": cost.bytes,
        "microseconds_modelled": round(cost.microseconds, 3),
        "unresolved": 0,
    }
    with pytest.raises(ValidationError):
        cost.kernels = 0
    assert type(cost).model_validate_json(cost.model_dump_json()) == cost
