"""Forms of one model, built for real: what is chosen, what is told, and what a failure leaves behind."""

import pytest
import torch
from torch import nn

import nvfp4_trt
from nvfp4_trt.auditing import parse_record
from nvfp4_trt.building import EngineRecord, build_engine
from nvfp4_trt.errors import Fp4LostError
from nvfp4_trt.passes import FORMS, PLAIN
from nvfp4_trt.portable import load, save

pytestmark = pytest.mark.long
RTX = "tensorrt_rtx"
RECIPES = ["w4a4-static", "w4a4-dynamic-token", "w4a4-dynamic"]


class Feed(nn.Module):
    """A norm, a linear layer, a GELU, a linear layer and a residual, as in every transformer."""

    def __init__(self):
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(64), nn.Linear(64, 128), nn.Linear(128, 64)

    def forward(self, x):
        return x + self.down(nn.functional.gelu(self.up(self.norm(x))))


@pytest.fixture(scope="module", params=RECIPES)
def feed(request, tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("feed") / "feed.onnx"
    module = nn.Sequential(Feed(), Feed()).eval().half()
    x = torch.randn(2, 16, 64).half()
    nvfp4_trt.export(module, path, recipe=request.param, inputs=[{"input": x}], dynamic=("batch,sequence",))
    return path


def test_the_form_with_the_fewest_launches_is_kept(feed, tmp_path):
    artifact = build_engine(feed, tmp_path / "fast.engine", backend=RTX, optimize="fast")
    plain = build_engine(feed, tmp_path / "off.engine", backend=RTX, optimize="off")
    told = {each.form: each for each in artifact.record.candidates}
    assert list(told) == list(FORMS)
    assert all(each.kernels and each.seconds and not each.error for each in told.values())
    assert told[PLAIN].kernels == plain.audit.kernels
    assert (
        artifact.audit.kernels == min(each.kernels for each in told.values()) == told[artifact.record.form].kernels
    )
    assert artifact.audit.counts() == plain.audit.counts() == (4, 4)
    assert artifact.audit.weight_bytes == plain.audit.weight_bytes
    # The fact that the search lives on: with dynamic rows, blocks fuse, and each quantizer costs one launch less.
    assert artifact.record.form == "blocks"
    assert artifact.audit.kernels <= plain.audit.kernels - 4
    assert [each.form for each in plain.record.candidates] == [PLAIN]


def test_the_record_is_written_and_is_of_the_chosen_form(feed, tmp_path):
    artifact = build_engine(
        feed,
        tmp_path / "feed.engine",
        backend=RTX,
        optimize="fast",
        lowered=tmp_path / "feed.trt.onnx",
        log=tmp_path / "feed.log",
    )
    written = EngineRecord.model_validate_json((tmp_path / "feed.engine.json").read_text())
    assert written == artifact.record
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "feed.engine",
        "feed.engine.json",
        "feed.log",
        "feed.trt.onnx",
    ]
    assert b"QuantizeLinear" in (tmp_path / "feed.trt.onnx").read_bytes()
    log = (tmp_path / "feed.log").read_text()
    dump = log[log.index("Layers:") :].split("\nVERBOSE: ", maxsplit=1)[0]
    assert tuple(parse_record(dump))[: len(written.rows)] == written.rows


def test_the_same_input_gives_the_same_choice(feed, tmp_path):
    made = [build_engine(feed, tmp_path / f"{i}.engine", backend=RTX, optimize="fast").record for i in range(2)]
    assert made[0].form == made[1].form
    assert made[0].rows == made[1].rows


def test_one_extent_becomes_a_number_in_the_graph(feed, tmp_path):
    """A dynamic graph with a profile of one shape has other kernels."""
    fixed = build_engine(
        feed, tmp_path / "a.engine", backend=RTX, optimize="off", dims=["batch=8", "sequence=128"]
    )
    ranged = build_engine(
        feed, tmp_path / "b.engine", backend=RTX, optimize="off", dims=["batch=1:8:9", "sequence=1:128:129"]
    )
    assert fixed.record.passes["fixed-dims"] > 0
    assert "fixed-dims" not in ranged.record.passes
    assert fixed.audit.kernels < ranged.audit.kernels
    dims = {dim for row in fixed.record.rows for operand in row.inputs for dim in operand.dims}
    assert -1 not in dims


def test_what_every_form_loses_is_an_error(portable, tmp_path):
    model, _ = load(portable("rows").path)
    weight = next(node for node in model.graph if node.op_type == "Dequantize" and node.inputs[0].const_value)
    matmul = next(user for user, _ in weight.outputs[0].uses())
    twice = nvfp4_trt.passes.graph.Builder(model.graph, "between", after=weight)
    scaled = twice.node("Add", [weight.outputs[0], weight.outputs[0]], "twice", like=weight.outputs[0]).outputs[0]
    matmul.replace_input_with(list(matmul.inputs).index(weight.outputs[0]), scaled)
    broken = tmp_path / "broken.onnx"
    save(model, broken)
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(Fp4LostError):
        build_engine(broken, out / "broken.engine", backend=RTX, optimize="fast", log=out / "log")
    assert [path.name for path in out.iterdir()] == ["log"]
