"""Serving sets as they are built: what is in the folder, and what the manifest says of it."""

import hashlib
import json
import resource
import shutil
import signal

import numpy as np
import pytest
from masked import build

import nvfp4_trt
from nvfp4_trt import errors
from nvfp4_trt.building import EngineRecord, process
from nvfp4_trt.portable import load, save
from nvfp4_trt.serving import read_manifest
from nvfp4_trt.serving.build import _copy_model
from nvfp4_trt.serving.profile_rows import rows_by_profile
from nvfp4_trt.serving.request import read_request

pytestmark = pytest.mark.long
NAMES = ["1x32", "1x64", "4x64"]


def names_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_the_folder_of_separate_engines(separate):
    made, log = separate
    engines = [f"engines/{name}.engine" for name in NAMES] + ["dynamic.engine"]
    assert names_in(made.path) == sorted(
        [*engines, *(f"{e}.json" for e in engines), "manifest.json", "model.onnx"]
    )
    assert set(made.records) == set(engines)
    heads = [line for line in log.splitlines() if line.startswith("== ")]
    assert heads == [f"== {name}.engine" for name in [*NAMES, "dynamic"]]


def test_the_folder_of_one_engine(shared):
    assert names_in(shared.path) == [
        "engines/shared.engine",
        "engines/shared.engine.json",
        "manifest.json",
        "model.onnx",
    ]


@pytest.mark.parametrize("kind", ["separate", "shared"])
def test_the_manifest_describes_the_files(kind, request):
    made = request.getfixturevalue(kind)
    made = made[0] if kind == "separate" else made
    manifest = read_manifest(made.path)
    assert manifest == made.manifest
    assert [each.name for each in manifest.buckets] == NAMES
    assert [each.profile for each in manifest.engines] == ([0] * 4 if kind == "separate" else [0, 1, 2, 3])
    assert [each.unresolved for each in manifest.buckets] == [0, 0, 0]
    assert manifest.dynamic.unresolved <= 2
    assert manifest.dynamic.ranges == {"batch": (1, 4, 4), "sequence": (1, 64, 80)}
    for each in manifest.engines:
        held = (made.path / each.file).read_bytes()
        assert (each.engine_bytes, each.sha256) == (len(held), hashlib.sha256(held).hexdigest())
        assert each.kernels > 0
        assert each.activation_bytes > 0
        record = EngineRecord.model_validate_json((made.path / f"{each.file}.json").read_text())
        assert all(layer.realized for layer in record.audit.layers)
        assert len(record.audit.layers) == 5
        assert ".set." not in record.trtexec, "the name of a folder that is gone"
    assert (manifest.dims, manifest.batch, manifest.unmasked) == (("batch", "sequence"), "batch", ())
    assert [(t.name, t.dtype, t.shape) for t in manifest.outputs] == [
        ("output_0", "float32", ("batch", "sequence", 64)),
        ("output_1", "float32", ("batch", 48)),
    ]


def test_profiles_of_one_engine_have_no_more_kernels_than_graphs_of_dynamic_shape(masked, shared, tmp_path):
    """A bucket costs what an engine of the same lowering costs by itself; the weights are there once."""
    alone = build(masked(), tmp_path / "alone", buckets="4x64", share_weights=True, with_dynamic=False)
    in_set = next(each for each in shared.manifest.buckets if each.name == "4x64")
    (by_itself,) = alone.manifest.buckets
    assert (in_set.kernels, in_set.bytes_moved) == (by_itself.kernels, by_itself.bytes_moved)
    weights = {made.records["engines/shared.engine"].audit.weight_bytes for made in (shared, alone)}
    assert len(weights) == 1


def test_a_record_is_told_apart(shared):
    record = shared.records["engines/shared.engine"]
    text = json.dumps({"Layers": [as_json(row) for row in record.rows]})
    assert [sum(row.is_launch for row in rows) for rows in rows_by_profile(text, 4)] == [
        each.kernels for each in shared.manifest.engines
    ]
    for count in (3, 5):
        with pytest.raises(errors.BuildFailedError, match=f"does not tell the engine's {count} profiles apart"):
            rows_by_profile(text, count)
    with pytest.raises(errors.BuildFailedError, match="gave no layer record"):
        rows_by_profile("", 1)


def as_json(row):
    def operands(group):
        return [{"Name": o.name, "Dimensions": o.dims, "Datatype": o.dtype} for o in group]

    parts = {"Inputs": row.inputs, "Constants": row.constants, "Outputs": row.outputs}
    return {"Name": row.name, "LayerType": row.type, **{name: operands(group) for name, group in parts.items()}}


def test_a_set_is_replaced_and_nothing_else_is(masked, tmp_path):
    folder = tmp_path / "set"
    build(masked(), folder, buckets="1x32,1x64", share_weights=True, with_dynamic=False)
    again = build(folder / "model.onnx", folder, buckets="2x32", share_weights=True, with_dynamic=False)
    assert [each.name for each in again.manifest.buckets] == ["2x32"]
    assert again.manifest.dynamic is None
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(errors.OutputUnwritableError, match="holds something else than a serving set"):
        build(masked(), tmp_path / "mine", buckets="2x32")
    assert names_in(tmp_path / "mine") == ["thesis.txt"]


def test_weights_beside_the_file_come_along(masked, tmp_path):
    model, _ = load(masked())
    (tmp_path / "source").mkdir()
    (tmp_path / "set").mkdir()
    save(model, tmp_path / "source" / "big.onnx", limit=0)
    request = read_request(tmp_path / "source" / "big.onnx", "1x32", (), (), with_dynamic=False)
    assert _copy_model(request, tmp_path / "set").data == ("big.onnx.data",)
    shutil.rmtree(tmp_path / "source")
    moved, _ = load(tmp_path / "set" / "model.onnx")
    weights = moved.graph.initializers
    for name, value in load(masked())[0].graph.initializers.items():
        np.testing.assert_array_equal(weights[name].const_value.numpy(), value.const_value.numpy())


@pytest.mark.parametrize("share", [False, True])
def test_a_failure_leaves_the_log_and_nothing_else(masked, tmp_path, share):
    """A recipe's wish that the engine does not hold: here, an FP4 GEMM with an operator behind its weight."""
    import onnx_ir as ir

    model, _ = load(masked())
    weight = next(n for n in model.graph if n.op_type == "Dequantize" and n.inputs[0].const_value is not None)
    users = list(weight.outputs[0].uses())
    zero = model.graph.initializers.setdefault(
        "zero", ir.Value(name="zero", const_value=ir.tensor([0.0], dtype=ir.DataType.FLOAT, name="zero"))
    )
    added = ir.node("Add", [weight.outputs[0], zero], name="spoils")
    added.outputs[0].type, added.outputs[0].shape = weight.outputs[0].type, weight.outputs[0].shape
    model.graph.insert_after(weight, added)
    for user, index in users:
        user.replace_input_with(index, added.outputs[0])
    (tmp_path / "source").mkdir()
    save(model, tmp_path / "source" / "m.onnx")
    with pytest.raises(errors.Fp4LostError):
        build(
            tmp_path / "source" / "m.onnx",
            tmp_path / "set",
            buckets="1x32,1x64",
            share_weights=share,
            log=tmp_path / "l.log",
        )
    assert names_in(tmp_path) == ["l.log", "source/m.onnx"]
    assert (tmp_path / "l.log").read_text().startswith("== shared.engine" if share else "== 1x32.engine")


@pytest.fixture
def before_exec(monkeypatch):
    """Return the function that says what the process that builds does to itself before it becomes the builder."""

    def before_exec(do):
        real = process.subprocess.Popen
        monkeypatch.setattr(
            process.subprocess, "Popen", lambda *given, **options: real(*given, preexec_fn=do, **options)
        )

    return before_exec


def test_a_crash_is_one_error(masked, tmp_path, before_exec):
    """The process that builds dies: here, of a timer that goes on when a process becomes another program."""
    before_exec(lambda: signal.setitimer(signal.ITIMER_REAL, 0.1))
    with pytest.raises(
        errors.BuildCrashedError, match="the process that runs tensorrt_rtx was ended by SIG"
    ) as caught:
        build(masked(), tmp_path / "set", buckets="1x32", share_weights=True)
    assert "--share-weights" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_error(masked, tmp_path, before_exec):
    """The engine cannot be written: here, for a limit on the size of a file."""
    before_exec(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)))
    with pytest.raises(errors.DiskFullError, match=r"no space left while building from model\.onnx"):
        build(masked(), tmp_path / "set", buckets="1x32", share_weights=True)
    assert list(tmp_path.iterdir()) == []


REFUSED = [
    ({"lowered": "x.onnx"}, errors.BucketsInvalidError, "of one engine"),
    ({"share_weights": True, "plugin": True}, errors.BucketsInvalidError, "builds no plugins"),
    ({"with_dynamic": False, "dims": ["batch=1:2:4"]}, errors.BucketsInvalidError, "is of the dynamic engine"),
    ({"dims": ["width=1:2:4"]}, errors.ProfileError, "no such dimension"),
    ({"gpu": "abacus"}, errors.UnknownGpuError, "abacus"),
    ({"pads": ["ids=1"]}, errors.BucketsInvalidError, "no such input"),
    ({"colour": "red"}, TypeError, "takes no 'colour'"),
]


@pytest.mark.parametrize(("options", "kind", "said"), REFUSED, ids=[said for *_, said in REFUSED])
def test_options_that_contradict_each_other(masked, tmp_path, options, kind, said):
    with pytest.raises(kind, match=said):
        build(masked(), tmp_path / "set", buckets="1x32", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_one_shape(portable, tmp_path):
    path = tmp_path / "fixed.onnx"
    source = portable("rows")
    nvfp4_trt.export(source.module, path, inputs=[source.batch])
    with pytest.raises(errors.BucketsInvalidError, match="has no dynamic dimension"):
        build(path, tmp_path / "set", buckets="3")
