from collections import Counter

import pytest

from nvfp4_trt.auditing import Operand, Row
from nvfp4_trt.costing import TensorShapes
from nvfp4_trt.costing.fitting import Sized
from nvfp4_trt.costing.operands import find_extents
from nvfp4_trt.costing.shapes import NodeTensors

DYNAMIC = {
    "heads": ("batch=1:6:12", "sequence=1:18:64"),
    "llama": ("batch=1:6:12", "sequence=1:18:64"),
    "gpt2": ("batch=1:6:12", "sequence=1:18:64"),
    "mlp": ("batch=1:9:32",),
    "rank4": ("batch=1:6:12",),
}


def _fixed(dims: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{dim.split('=')[0]}={dim.split(':')[1]}" for dim in dims)


@pytest.mark.parametrize("name", DYNAMIC)
def test_gemms_of_a_dynamic_engine_at_its_optimum_are_those_of_the_fixed_one(engine, name):
    dynamic = engine(name, *DYNAMIC[name])
    fixed = engine(name, *_fixed(DYNAMIC[name]))
    assert any(-1 in o.dims for row in dynamic.record.rows for o in row.inputs)
    assert not any(-1 in o.dims for row in fixed.record.rows for o in row.inputs)
    theirs, ours = (
        Counter(
            (r.read_bytes, r.written_bytes, r.flops, r.precision) for r in built.cost().rows if r.type == "gemm"
        )
        for built in (fixed, dynamic)
    )
    assert ours == theirs
    assert dynamic.cost().unresolved == 0


@pytest.mark.parametrize("name", ["heads", "llama"])
@pytest.mark.parametrize("sequence", [16, 64, 128])
def test_bytes_grow_linearly_with_the_batch(engine, name, sequence):
    """Also where the batch or the sequence equals the heads (4), their size (16) or the width (64)."""
    built = engine(name, *DYNAMIC[name])
    costs = {batch: built.cost(batch, sequence) for batch in (8, 16, 24, 32, 64)}
    assert all(cost.unresolved == 0 for cost in costs.values())
    for rows in zip(*(cost.rows for cost in costs.values()), strict=True):
        for field in ("read_bytes", "written_bytes", "flops"):
            a, b, c, d, e = (getattr(row, field) for row in rows)
            assert (b - a, b - a, 4 * (b - a)) == (c - b, d - c, e - d), (rows[0].name, field)


def _row(*operands: Operand, onnx: tuple[str, ...] = ("node",), kind: str = "kgen") -> Row:
    return Row(name="row", type=kind, inputs=operands, constants=(), outputs=(), onnx=onnx)


def _shapes(*tensors: Sized) -> TensorShapes:
    named = {f"t{i}": tensor for i, tensor in enumerate(tensors)}
    return TensorShapes(tensors=named, nodes={"node": NodeTensors("Op", tuple(named), ())})


def test_several_sizes_are_not_picked_from():
    operand = Operand(name="o", dims=(-1, 64), dtype="Half")
    shapes = _shapes(Sized((8, 64), (-1, 64)), Sized((1024, 64), (-1, 64)))
    extent = find_extents([_row(operand)], shapes).of(operand)
    assert not extent.known
    assert extent.elements == 1024 * 64


def test_rows_that_share_an_operand_agree_on_its_size():
    operand = Operand(name="o", dims=(-1, 64), dtype="Half")
    shapes = TensorShapes(
        tensors={"a": Sized((8, 64), (-1, 64)), "b": Sized((1024, 64), (-1, 64))},
        nodes={"one": NodeTensors("Op", ("a", "b"), ()), "two": NodeTensors("Op", ("b",), ())},
    )
    rows = [_row(operand, onnx=("one",)), _row(operand, onnx=("two",))]
    extent = find_extents(rows, shapes).of(operand)
    assert (extent.known, extent.dims) == (True, (1024, 64))


def test_rows_that_disagree_leave_a_size_open():
    operand = Operand(name="o", dims=(-1, 64), dtype="Half")
    shapes = TensorShapes(
        tensors={"a": Sized((8, 64), (-1, 64)), "b": Sized((1024, 64), (-1, 64))},
        nodes={"one": NodeTensors("Op", ("a",), ()), "two": NodeTensors("Op", ("b",), ())},
    )
    rows = [_row(operand, onnx=(name,)) for name in ("one", "two", "one")]
    extent = find_extents(rows, shapes).of(operand)
    assert (extent.known, extent.elements) == (False, 1024 * 64)


def test_what_fits_nothing_stays_unknown():
    operand = Operand(name="o", dims=(-1, 48), dtype="Half")
    extent = find_extents([_row(operand)], _shapes(Sized((8, 64), (-1, 64)))).of(operand)
    assert (extent.known, extent.elements) == (False, 0)


def test_a_batch_does_not_follow_the_rows_of_another_operand():
    rows = Operand(name="rows", dims=(-1, 64), dtype="Half")
    heads = Operand(name="heads", dims=(-1, 128, 16), dtype="Half")
    shapes = _shapes(Sized((1024, 64), (-1, 64)))
    extents = find_extents([_row(rows, heads)], shapes)
    assert extents.of(rows).known
    assert not extents.of(heads).known


@pytest.mark.parametrize(("rows", "tiles"), [(1, 1), (128, 1), (129, 2), (1000, 8)])
@pytest.mark.parametrize(("columns", "fours"), [(256, 4), (272, 5), (320, 5)])
def test_block_scales_come_in_tiles_of_128_rows(rows, tiles, columns, fours):
    codes = Operand(name="codes", dims=(-1, columns), dtype="FP4E2M1")
    scales = Operand(name="scales", dims=(-1, 4, 32, fours, 4), dtype="FP8")
    extents = find_extents([_row(codes, scales, kind="gemm")], _shapes(Sized((rows, columns), (-1, columns))))
    assert extents.of(scales).dims == (tiles, 4, 32, fours, 4)
    assert extents.of(scales).elements == tiles * 128 * fours * 4
