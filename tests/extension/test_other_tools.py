"""Polygraphy's other tools on portable and lowered files, as a user types them."""

import os
import sys
from pathlib import Path

import layered
import onnx
import pytest

import nvfp4_trt
from nvfp4_trt.errors import NotOurOnnxError
from nvfp4_trt.portable import load
from nvfp4_trt.runners import EvaluatorRunner


def initializers(path):
    return {tensor.name: (tensor.data_type, tensor.raw_data) for tensor in onnx.load(path).graph.initializer}


@pytest.mark.parametrize(
    ("file", "operator"), [("model.onnx", "Dequantize"), ("model.trt.onnx", "TRT_FP4DynamicQuantize")]
)
def test_inspect_model(polygraphy, file, operator):
    status, told = polygraphy(f"inspect model {file} --show layers attrs weights")
    assert status == 0, told
    assert f"Op: {operator}]" in told
    assert "down/MatMul [Op: MatMul]" in told


def test_sanitize_keeps_packed_weights(folder, polygraphy):
    status, told = polygraphy("surgeon sanitize model.onnx -o clean.onnx --cleanup --toposort")
    assert status == 0, told
    assert initializers(folder / "clean.onnx") == initializers(folder / "model.onnx")
    with pytest.raises(NotOurOnnxError, match="lacks its metadata, which some tools drop"):
        load(folder / "clean.onnx")
    model, original = onnx.load(folder / "clean.onnx"), onnx.load(folder / "model.onnx", load_external_data=False)
    model.metadata_props.extend(original.metadata_props)  # as docs/polygraphy.md says
    onnx.save(model, folder / "clean.onnx")
    assert load(folder / "clean.onnx")[1] == load(folder / "model.onnx")[1]
    given = {"inputs": list(layered.batches()), "per_layer": True}
    nvfp4_trt.compare(folder / "clean.onnx", layered.make(), **given).layers.check()


def test_sanitize_a_lowered_file_and_build_from_it(folder, polygraphy):
    status, told = polygraphy("surgeon sanitize model.trt.onnx -o clean.trt.onnx --fold-constants --cleanup")
    assert status == 0, told
    before, after = (initializers(folder / name) for name in ("model.trt.onnx", "clean.trt.onnx"))
    packed = {name: held for name, held in before.items() if held[0] in {17, 23}}  # e4m3 and e2m1
    assert len(packed) == 10  # query, key and value are one, and two equal layers are two
    assert packed.items() <= after.items()
    assert onnx.TensorProto.DOUBLE not in {kind for kind, _ in after.values()}
    batch = {name: tensor.numpy() for name, tensor in next(layered.batches()).items()}
    ran = []
    for name in ("model.trt.onnx", "clean.trt.onnx"):  # the function too, which TensorRT does not look at
        with EvaluatorRunner(folder / name) as runner:
            ran.append(runner.infer(batch))
    assert all((ran[0][name] == ran[1][name]).all() for name in ran[0])
    shapes = " ".join(f"--trt-{which}-shapes ids:{shape} mask:{shape}" for which, shape in SHAPES.items())
    line = f"convert clean.trt.onnx -o clean.engine --compute-capabilities 12.0 --decomposable-attentions {shapes}"
    status, told = polygraphy(line, POLYGRAPHY_USE_TENSORRT_RTX="1")
    assert status == 0, told
    assert (folder / "clean.engine").stat().st_size > 100_000


SHAPES = {"min": "[1,1]", "opt": "[2,8]", "max": "[4,16]"}


def test_debug_reduce_finds_an_operator(folder, polygraphy):
    check = "--fail-regex Op:.Tanh --check polygraphy inspect model polygraphy_debug.onnx --show layers"
    line = "debug reduce model.onnx -o reduced.onnx --mode bisect --model-input-shapes ids:[2,7] mask:[2,7]"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    status, told = polygraphy(f"{line} {check}", PATH=path)
    assert status == 0, told
    reduced = onnx.load(folder / "reduced.onnx").graph.node
    assert "Tanh" in {node.op_type for node in reduced}
    assert len(reduced) < 5
