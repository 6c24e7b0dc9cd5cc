"""Variants of one model, built for real: what is chosen, what is told, and what a failure leaves behind."""

import signal

import pytest
import torch
from torch import nn

import nvfp4_trt
from nvfp4_trt.auditing import parse_record
from nvfp4_trt.building import EngineRecord, build_engine, process
from nvfp4_trt.building import search as search_module
from nvfp4_trt.building.profiles import parse_ranges
from nvfp4_trt.building.variants import Variant, variants
from nvfp4_trt.errors import Fp4LostError, InputSpecError, UnknownGpuError
from nvfp4_trt.passes import KEPT_BLOCKS, PLAIN
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


def test_the_engine_of_the_least_modelled_time_is_kept(feed, tmp_path):
    artifact = build_engine(feed, tmp_path / "fast.engine", backend=RTX, optimize="fast", cache=False)
    plain = build_engine(feed, tmp_path / "off.engine", backend=RTX, optimize="off")
    told = {each.form: each for each in artifact.record.candidates}
    assert list(told) == [each.form for each in variants("fast", {})]
    assert all(each.kernels and each.bytes and each.seconds and not each.error for each in told.values())
    assert told[PLAIN].kernels == plain.audit.kernels
    chosen = told[artifact.record.form]
    assert artifact.audit.kernels == chosen.kernels == artifact.record.cost["kernels"]
    assert chosen.microseconds == min(each.microseconds for each in told.values())
    assert chosen.microseconds == artifact.record.cost["microseconds_modelled"]
    assert artifact.audit.counts() == plain.audit.counts() == (4, 4)
    assert artifact.audit.weight_bytes == plain.audit.weight_bytes
    # A fact that the search lives on: with dynamic rows, blocks fuse, and each quantizer costs one launch less.
    assert told["blocks"].kernels <= plain.audit.kernels - 4
    assert [each.form for each in plain.record.candidates] == [PLAIN]
    assert plain.record.memory.activation_bytes > 0


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
    made = [
        build_engine(feed, tmp_path / f"{i}.engine", backend=RTX, optimize="fast", cache=False).record
        for i in range(2)
    ]
    assert made[0].form == made[1].form
    assert made[0].rows == made[1].rows


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """Five blocks between two linears."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("deep") / "deep.onnx"
    module = nn.Sequential(nn.Linear(64, 64), nn.Sequential(*(Feed() for _ in range(5))), nn.Linear(64, 64))
    x = torch.randn(2, 16, 64)
    nvfp4_trt.export(module.eval().half(), path, inputs=[{"input": x.half()}], dynamic=("batch,sequence",))
    return path


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "nvfp4-trt" / "outcomes"


def test_repeated_blocks_are_tried_once(deep, tmp_path, cache):
    record = build_engine(
        deep, tmp_path / "e", backend=RTX, optimize="full", dims=["batch=4", "sequence=64"]
    ).record
    tried = variants("full", parse_ranges(["batch=4", "sequence=64"]))
    trials = [each for each in record.candidates if each.blocks]
    wholes = [each for each in record.candidates if not each.blocks]
    assert [each.variant for each in trials] == list(tried)
    assert all(each.blocks == KEPT_BLOCKS and each.kernels and not each.error for each in trials)
    plain = trials[0]
    better = sorted(
        (t for t in trials if t.predicted < search_module.WORTH * plain.predicted), key=lambda t: t.predicted
    )
    assert [w.variant for w in wholes] == [Variant(), *(t.variant for t in better[:3])]
    least, first = min(each.microseconds for each in wholes), wholes[0].microseconds
    assert record.cost["microseconds_modelled"] == (least if least <= search_module.WORTH * first else first)
    for whole in wholes:  # what the trial left out is foreseen
        trial = next(t for t in trials if t.variant == whole.variant)
        assert trial.predicted == pytest.approx(whole.microseconds, rel=0.1)
        assert trial.microseconds < 0.8 * whole.microseconds
    assert record.audit.counts() == (12, 12)
    assert len(list(cache.iterdir())) == len(record.candidates)


def test_known_outcomes_spare_the_trials(deep, tmp_path, cache, monkeypatch):
    options = {"backend": RTX, "optimize": "fast", "gpu": "rtx5090"}
    first = build_engine(deep, tmp_path / "a", **options).record
    built = []
    run = search_module.run_builds
    monkeypatch.setattr(
        search_module, "run_builds", lambda jobs, *rest: run((built.append(j) or j for j in jobs), *rest)
    )
    again = build_engine(deep, tmp_path / "b", **options).record
    assert len(built) == 1  # the engine itself
    assert again.candidates == first.candidates
    assert (again.form, again.rows) == (first.form, first.rows)


def test_rows_that_fill_no_tile_are_tried_padded(tmp_path, deep):
    """3 x 100 rows become 384: a kernel less at each quantizer, which is worth the bytes of 84 rows."""
    record = build_engine(
        deep, tmp_path / "e", backend=RTX, optimize="fast", dims=["batch=3", "sequence=100"], cache=False
    ).record
    told = {(each.variant, each.blocks): each for each in record.candidates}
    plain, padded = (told[variant, KEPT_BLOCKS] for variant in (Variant(), Variant(padded=True)))
    assert padded.kernels <= plain.kernels - 7
    assert padded.bytes > plain.bytes
    assert record.audit.counts() == (12, 12)
    assert record.passes.get("pad-rows", 0) == (12 if record.padded else 0)
    assert record.cost["microseconds_modelled"] <= told[Variant(), 0].microseconds


def test_a_budget_that_is_over_leaves_the_plain_one(deep, tmp_path):
    record = build_engine(deep, tmp_path / "e", backend=RTX, optimize="full", budget=0, cache=False).record
    *others, plain = record.candidates
    assert record.over
    assert {each.error for each in others} == {search_module.OVER}
    assert (plain.form, plain.loosened, plain.blocks, plain.error) == (PLAIN, "", 0, "")
    assert record.form == PLAIN


def test_the_gpu_decides(deep, tmp_path):
    """Where bandwidth is scarce, the bytes of a form weigh more than its launches."""
    large = ["batch=1:64:64", "sequence=1:512:512"]
    weighed = {}
    for gpu in ("b200", "dgx-spark"):
        told = build_engine(deep, tmp_path / gpu, backend=RTX, gpu=gpu, dims=large).record.candidates
        times = {each.form: each.microseconds for each in told if each.blocks}
        weighed[gpu] = times["blocks"] / times[PLAIN]
    assert weighed["dgx-spark"] > weighed["b200"]


def test_a_variant_that_crashes_the_compiler_is_told_and_passed_over(feed, tmp_path, monkeypatch):
    """A real crash: the child of one form starts with a timer that ends it, however fast the machine is."""
    start = process.subprocess.Popen

    def mined(command, **options):
        if "blocks" in command[-1]:
            options["preexec_fn"] = lambda: signal.setitimer(signal.ITIMER_REAL, 0.1)
        return start(command, **options)

    monkeypatch.setattr(process.subprocess, "Popen", mined)
    record = build_engine(feed, tmp_path / "e", backend=RTX, optimize="fast", cache=False).record
    told = {each.form: each for each in record.candidates}
    assert told["blocks"].error.startswith("build-crashed: the process that runs tensorrt_rtx was ended by SIG")
    assert told["blocks"].kernels == 0
    assert (record.form, told[PLAIN].error) == (PLAIN, "")
    assert not record.over


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"budget": -1.0}, InputSpecError),
        ({"budget": float("nan")}, InputSpecError),
        ({"gpu": "abacus"}, UnknownGpuError),
    ],
)
def test_what_the_search_cannot_go_by(feed, tmp_path, options, kind):
    with pytest.raises(kind):
        build_engine(feed, tmp_path / "e", backend=RTX, **options)
    assert list(tmp_path.iterdir()) == []


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
