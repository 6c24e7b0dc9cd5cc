"""`polygraphy run` with this package's runners, as a user types it."""

import re
from importlib.metadata import entry_points

from nvfp4_trt.extension import export_argument_groups

SHAPES = "--input-shapes ids:[2,7] mask:[2,7]"
TORCH = "--nvfp4-torch w.safetensors --nvfp4-factory layered:make"


def test_polygraphy_finds_the_extension():
    (found,) = entry_points(group="polygraphy.run.plugins").select(name="nvfp4")
    assert found.load() is export_argument_groups


def test_the_file_torch_and_the_reference_are_the_same(polygraphy):
    """The recipe is the file's, and a static one takes its scales from the inputs of the export."""
    given = f"--onnxrt {TORCH} --nvfp4-inputs layered:batches --nvfp4-reference"
    status, told = polygraphy(f"run static.onnx {given} {SHAPES} --atol 1e-5 --rtol 0")
    assert status == 0, told
    assert told.count("Pass Rate: 100.00%") == 2


def test_a_lowered_file_which_onnxruntime_cannot_run(polygraphy):
    given = f"--nvfp4-float w.safetensors --nvfp4-reference {TORCH}"
    status, told = polygraphy(f"run model.trt.onnx {given} {SHAPES} --atol 1e-4 --rtol 0")
    assert status == 1, told
    rates = [float(rate) for rate in re.findall(r"Pass Rate: ([\d.]+)%", told)]
    assert rates == [0, 100]  # the float model is another; the file and the quantized model are the same


def test_one_line_for_all_runners(polygraphy):
    """The script is what `run` executes, and needs no GPU to be made."""
    status, script = polygraphy(
        f"run model.onnx --onnxrt {TORCH} --nvfp4-engine a.engine --nvfp4-engine b.engine --trt --gen-script -"
    )
    assert status == 0, script
    lines = [line.strip() for line in script.splitlines()]
    start = lines.index("runners = [")
    runners = [line.split("(")[0] for line in lines[start + 1 : lines.index("]", start)]]
    assert runners == ["OnnxrtRunner", "quantized_runner", "engine_runner", "engine_runner", "TrtRunner"]
    assert "engine_runner('a.engine')," in lines
    assert "engine_runner('b.engine')," in lines
    host = polygraphy("run model.onnx --nvfp4-engine a.engine --nvfp4-allow-host-code --gen-script -")[1]
    assert "engine_runner('a.engine', allow_host_code=True)," in host


def test_no_gpu_is_told_without_a_traceback(polygraphy):
    status, told = polygraphy("run model.onnx --nvfp4-engine w.safetensors", PATH="/nonexistent")
    assert status == 1
    assert "gpu-missing: an engine runs on an NVIDIA GPU, and there is none here" in told
    assert "hint: " in told
    assert "Traceback" not in told
