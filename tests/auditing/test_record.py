import json

import pytest

from nvfp4_trt.auditing import Operand, Row, parse_record
from nvfp4_trt.building import lower_file
from nvfp4_trt.building.backends import BackendName
from nvfp4_trt.building.process import run_build
from nvfp4_trt.building.spec import BuildSpec


@pytest.fixture(scope="module")
def record(portable, tmp_path_factory):
    """The record as TensorRT-RTX's log gives it, of a build that runs now."""
    folder = tmp_path_factory.mktemp("record")
    lower_file(portable("heads").path, folder / "heads.trt.onnx")
    spec = BuildSpec(
        backend=BackendName.TENSORRT_RTX,
        targets=("sm_120",),
        model=folder / "heads.trt.onnx",
        engine=folder / "engine",
        record=folder / "record.txt",
        log=folder / "log",
        profiles=({"x": ((1, 1, 64), (2, 6, 64), (8, 24, 64))},),
    )
    run_build(spec, folder)
    return spec.record.read_text(encoding="utf-8")


def test_every_line_of_the_dump_is_a_row(record):
    rows = parse_record(record)
    lines = [line for line in record.splitlines() if line.strip().startswith("Name: ")]
    named = [line for line in lines if "LayerType: " in line]
    assert len(rows) == len(named) > 10
    assert {row.type for row in rows} >= {"gemm", "kgen"}
    assert record.startswith("Layers:")


def test_gemms_have_operands_dimensions_and_nodes(record):
    gemms = [row for row in parse_record(record) if row.is_fp4_gemm]
    nodes = {name for row in gemms for name in row.onnx}
    assert nodes >= {f"{layer}/MatMul" for layer in ("query+key+value", "out", "pooler")}
    for row in gemms:
        assert row.is_launch
        assert row.reads_fp4_weight
        (weight,) = (o for o in row.constants if o.dtype == "FP4E2M1")
        assert 64 in weight.dims
        assert weight.nbytes == weight.dims[0] * weight.dims[1] // 2
        (activation,) = (o for o in row.inputs if o.dtype == "FP4E2M1")
        assert activation.dims == (-1, 64)
        assert activation.nbytes == 0  # dynamic
        assert row.outputs


def test_every_operand_of_the_dump_is_parsed(record):
    rows = parse_record(record)
    body = record.split("I/O Tensors")[0]
    assert sum(len(r.inputs) + len(r.constants) + len(r.outputs) for r in rows) == body.count("{ Name: ")
    known = {"FP4E2M1", "FP8", "Float", "Half", "Int32", "Int64", "Bool", "UInt8"}
    assert {o.dtype for r in rows for o in (*r.inputs, *r.constants, *r.outputs)} <= known


HAND_WRITTEN = {
    "Layers": [
        {
            "Name": "fc/MatMul_myl0_3",
            "LayerType": "gemm",
            "Inputs": [
                {"Name": "codes", "Dimensions": [8, 64], "Format/Datatype": "FP4E2M1"},
                {"Name": "steps", "Dimensions": [1, 4, 32, 1, 4], "Format/Datatype": "FP8"},
            ],
            "Outputs": [{"Name": "y", "Dimensions": [8, 32], "Format/Datatype": "Half"}],
            "Constants": [{"Name": "w", "Dimensions": [32, 64], "Format/Datatype": "FP4E2M1"}],
            "TacticName": "some_kernel",
            "Metadata": "[ONNX Layer: fc/MatMul]\x1e[ONNX Layer: fc/Transpose]",
        },
        {"Name": "wait", "LayerType": "wait", "Inputs": [], "Outputs": []},
        "a row by its name alone, as where profiling is not detailed",
    ],
    "Bindings": ["x", "y"],
}
"""In the form that the engine inspector's documentation gives. Written by hand: full TensorRT's inspector needs
a Blackwell GPU, and nothing here has run on one."""


def test_the_inspectors_json():
    gemm, wait = parse_record(json.dumps(HAND_WRITTEN))
    assert gemm.is_fp4_gemm
    assert gemm.reads_fp4_weight
    assert gemm.onnx == ("fc/MatMul", "fc/Transpose")
    assert gemm.constants == (Operand(name="w", dims=(32, 64), dtype="FP4E2M1"),)
    assert gemm.inputs[1].dims == (1, 4, 32, 1, 4)
    assert not wait.is_launch


@pytest.mark.parametrize("text", ["", "Layers:\n", "no record at all", '{"Layers": []}', "{}"])
def test_an_empty_record_is_an_error(text):
    with pytest.raises(ValueError, match="empty"):
        parse_record(text)


def row(kind, inputs=(), constants=()):
    def operands(kinds):
        return tuple(Operand(name=str(i), dims=(32, 32), dtype=d) for i, d in enumerate(kinds))

    return Row(name="r", type=kind, inputs=operands(inputs), constants=operands(constants), outputs=(), onnx=())


@pytest.mark.parametrize(
    ("kind", "inputs", "constants", "fp4"),
    [
        ("gemm", ["FP4E2M1", "FP8"], ["FP4E2M1", "FP8"], True),
        ("gemm", ["FP4E2M1", "FP4E2M1"], [], True),
        ("gemm", ["Half"], ["FP4E2M1"], False),
        ("gemm", ["FP4E2M1"], ["Half"], False),
        ("kgen", ["FP4E2M1"], ["FP4E2M1"], False),
    ],
)
def test_what_counts_as_an_fp4_gemm(kind, inputs, constants, fp4):
    assert row(kind, inputs, constants).is_fp4_gemm == fp4


@pytest.mark.parametrize(
    ("dtype", "nbytes"), [("FP4E2M1", 512), ("FP8", 1024), ("Half", 2048), ("BF16", 2048), ("Float", 4096)]
)
def test_bytes_of_a_constant(dtype, nbytes):
    assert Operand(name="c", dims=(32, 32), dtype=dtype).nbytes == nbytes
