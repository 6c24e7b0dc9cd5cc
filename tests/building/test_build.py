"""Building in a child process: what appears together, and what each failure leaves behind: nothing."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto
from tiny_networks import Network, linear, make_spec

import nvfp4_trt
from nvfp4_trt import errors
from nvfp4_trt.building import EngineRecord, build_engine, lower_file
from nvfp4_trt.building.process import run_build
from nvfp4_trt.portable import load, save

pytestmark = pytest.mark.long
RTX = "tensorrt_rtx"


def names_in(folder):
    return sorted(path.name for path in folder.rglob("*"))


def edited(exported, folder, edit):
    """Write a copy of a portable file that `edit` has changed, into a folder of its own."""
    model, _ = load(exported.path)
    edit(model)
    (folder / "edited").mkdir()
    path = folder / "edited" / "model.onnx"
    save(model, path)
    return path


@pytest.fixture(scope="module")
def built(portable, tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    artifact = build_engine(
        portable("rows").path,
        folder / "rows.engine",
        backend=RTX,
        optimize="off",
        targets=["sm_120", "sm_121", "sm_120"],
        dims=["batch=1:4:9"],
        lowered=folder / "rows.trt.onnx",
        log=folder / "rows.log",
    )
    return folder, artifact


def test_engine_record_log_and_lowered_file_appear_together(built):
    folder, artifact = built
    assert names_in(folder) == ["rows.engine", "rows.engine.json", "rows.log", "rows.trt.onnx"]
    assert artifact.path == folder / "rows.engine"


def test_the_record_beside_the_engine_is_what_was_returned(built):
    folder, artifact = built
    written = EngineRecord.model_validate_json((folder / "rows.engine.json").read_text())
    assert written == artifact.record
    assert written.engine == "rows.engine"


def test_the_record_is_of_that_engine(built):
    folder, artifact = built
    data = (folder / "rows.engine").read_bytes()
    assert artifact.record.engine_sha256 == hashlib.sha256(data).hexdigest()
    assert artifact.record.engine_bytes == len(data)


def test_the_record_says_how_it_was_built(built, portable):
    _, artifact = built
    record = artifact.record
    assert record.backend == RTX
    assert record.version.startswith("1.")
    assert record.targets == ("sm_120", "sm_121")
    assert record.profile == {"input": ((1, 64), (4, 64), (9, 64))}
    assert record.seconds > 0
    assert "--computeCapabilities=12.0,12.1" in record.trtexec
    assert "rows.trt.onnx" in record.trtexec
    assert record.recipe["name"] == "w4a4-dynamic-token"
    assert record.passes["gemm-to-matmul"] == 2
    assert record.source_sha256 == load(portable("rows").path)[1].source_sha256
    assert record.audit.counts() == (2, 2)
    assert any(row.is_fp4_gemm for row in record.rows)


def test_the_log_is_tensorrts(built):
    folder, _ = built
    text = (folder / "rows.log").read_text()
    assert "VERBOSE: " in text
    assert "INFO: " in text


def test_the_kept_lowered_file_is_what_lower_writes(built, portable):
    folder, _ = built
    lower_file(portable("rows").path, folder / "again.onnx")
    same = (folder / "again.onnx").read_bytes() == (folder / "rows.trt.onnx").read_bytes()
    (folder / "again.onnx").unlink()
    assert same


def fails(kind, source, folder, **options):
    """Assert that a build fails in its way and leaves nothing but the log; return the error."""
    out = folder / "out"
    out.mkdir()
    with pytest.raises(kind) as caught:
        build_engine(source, out / "model.engine", backend=RTX, optimize="off", log=out / "log", **options)
    assert set(names_in(out)) <= {"log"}
    return caught.value


def with_bit_shift(model):
    """Add an output that TensorRT has no operator for."""
    graph = model.graph
    one = ir.tensor(np.ones(4, np.uint8), name="one")
    graph.register_initializer(
        ir.Value(name="one", shape=ir.Shape([4]), type=ir.TensorType(one.dtype), const_value=one)
    )
    one = graph.initializers["one"]
    node = ir.node("BitShift", [one, one], {"direction": "LEFT"}, name="shift")
    node.outputs[0].name = "shifted"
    node.outputs[0].type, node.outputs[0].shape = one.type, one.shape
    graph.append(node)
    graph.outputs.append(node.outputs[0])


def test_a_refusal_by_the_parser(portable, tmp_path):
    error = fails(errors.ParseFailedError, edited(portable("rows"), tmp_path, with_bit_shift), tmp_path)
    assert (error.code, error.exit_status) == ("parse-failed", 4)
    assert "shift" in error.message
    assert (tmp_path / "out" / "log").is_file()


def convolution():
    """A 3x3 convolution with both operands in FP4, which TensorRT-RTX's compiler fails on."""
    net = Network()
    rows = net.add("Reshape", ["x", net.constant("to_rows", np.array([-1, 64]))], "rows")
    x = net.quantized(rows, net.constant("scale", np.float32(1)))
    x = net.add("Reshape", [x, net.constant("to_image", np.array([1, 8, 8, 64]))], "image")
    weight = net.add(
        "Reshape",
        [net.quantized_weight(64, 9 * 64), net.constant("to_filter", np.array([64, 3, 3, 64]))],
        "filter",
    )
    operands = [net.add("Transpose", [v], f"{v}/nchw", perm=[0, 3, 1, 2]) for v in (x, weight)]
    net.add("Conv", operands, "y", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    return net.model((1, 8, 8, 64), ["y"])


def test_a_failure_of_the_builder_has_its_words(tmp_path):
    with pytest.raises(errors.BuildFailedError, match=r"built no engine: .*Myelin") as caught:
        run_build(make_spec(tmp_path, convolution()), tmp_path)
    assert (caught.value.code, caught.value.exit_status) == ("build-failed", 4)


def workers_of(pid):
    """Return the child processes of a process that run a build."""
    found = []
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in listed.read_text().split():
            command = Path(f"/proc/{child}/cmdline")
            if command.exists() and b"nvfp4_trt.building.worker" in command.read_bytes():
                found.append(int(child))
    return found


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.01)
    raise AssertionError("it did not happen in time")


def log_has_lines(out):
    return [path for path in out.rglob("tensorrt.log") if path.stat().st_size > 1000]


@pytest.mark.parametrize("how", [signal.SIGSEGV, signal.SIGKILL], ids=lambda s: s.name)
def test_a_crash_of_the_child(portable, tmp_path, how):
    source = portable("gpt2").path
    out = tmp_path / "out"
    out.mkdir()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(
            build_engine, source, out / "model.engine", backend=RTX, optimize="off", log=out / "log"
        )
        (worker,) = wait_for(lambda: workers_of(os.getpid()))
        wait_for(lambda: log_has_lines(out))
        os.kill(worker, how)
        with pytest.raises(errors.BuildCrashedError) as caught:
            running.result()
    error = caught.value
    assert (error.code, error.exit_status) == ("build-crashed", 4)
    assert how.name in error.message
    logged = (out / "log").read_text().splitlines()
    assert logged[-1] in error.message  # its log's tail
    assert names_in(out) == ["log"]


def test_an_exception_in_the_child_is_shown(tmp_path):
    spec = make_spec(tmp_path, linear())
    spec = spec.model_copy(update={"engine": tmp_path / "missing" / "tiny.engine"})
    with pytest.raises(errors.BuildCrashedError, match="FileNotFoundError") as caught:
        run_build(spec, tmp_path)
    assert "exited with status 1" in caught.value.message


def test_ctrl_c_leaves_no_child_and_no_file(portable, tmp_path):
    source = portable("gpt2").path
    command = [
        sys.executable,
        "-m",
        "nvfp4_trt.cli",
        "build",
        "engine",
        str(source),
        "--backend",
        RTX,
        "--optimize",
        "off",
    ]
    parent = subprocess.Popen(
        [*command, "-o", str(tmp_path / "model.engine"), "--lowered", str(tmp_path / "lowered.onnx")],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        (worker,) = wait_for(lambda: workers_of(parent.pid))
        wait_for(lambda: log_has_lines(tmp_path))
        parent.send_signal(signal.SIGINT)
        _, told = parent.communicate(timeout=30)
    finally:
        parent.kill()
    assert parent.returncode == 130
    assert "interrupted" in told
    assert not Path(f"/proc/{worker}").exists()
    assert set(names_in(tmp_path)) <= {"lowered.onnx"}  # asked for by name, and whole
    if (tmp_path / "lowered.onnx").exists():
        onnx.checker.check_model(str(tmp_path / "lowered.onnx"))


def test_a_wrong_target_or_range_fails_before_anything_is_written(portable, tmp_path):
    source = portable("rows").path
    for options, kind in (
        ({"targets": ["sm_100"]}, errors.TargetUnsupportedError),
        ({"dims": ["sequence=1:2:3"]}, errors.ProfileError),
        ({"dims": ["batch"]}, errors.InputSpecError),
    ):
        with pytest.raises(kind):
            build_engine(
                source, tmp_path / "model.engine", backend=RTX, optimize="off", log=tmp_path / "log", **options
            )
    assert names_in(tmp_path) == []


def test_a_missing_folder_fails_first(portable, tmp_path):
    with pytest.raises(errors.OutputUnwritableError):
        nvfp4_trt.build(portable("rows").path, tmp_path / "missing" / "model.engine")


def test_a_lowered_file_is_not_taken_for_a_portable_one(portable, tmp_path):
    lower_file(portable("rows").path, tmp_path / "lowered.onnx")
    with pytest.raises(errors.NotOurOnnxError, match="lowered already"):
        build_engine(tmp_path / "lowered.onnx", tmp_path / "model.engine", backend=RTX, optimize="off")
    assert names_in(tmp_path) == ["lowered.onnx"]


def test_a_failed_build_keeps_the_engine_that_was_there(portable, tmp_path):
    (tmp_path / "out").mkdir()
    engine = tmp_path / "out" / "model.engine"
    engine.write_bytes(b"before")
    with pytest.raises(errors.ParseFailedError):
        build_engine(edited(portable("rows"), tmp_path, with_bit_shift), engine, backend=RTX, optimize="off")
    assert names_in(tmp_path / "out") == ["model.engine"]
    assert engine.read_bytes() == b"before"


def test_an_fp4_weight_without_a_quantized_activation_is_stated(tmp_path):
    """The record of a weight-only GEMM: a kernel reads the codes, and the GEMM is not FP4."""
    net = Network()
    net.matmul("x", net.quantized_weight(64, 64), "y")
    spec = make_spec(tmp_path, net.model((8, 64), ["y"]))
    run_build(spec, tmp_path)
    assert "FP4E2M1" in spec.record.read_text()
    assert TensorProto.FLOAT4E2M1 in {t.data_type for t in onnx.load(spec.model).graph.initializer}
