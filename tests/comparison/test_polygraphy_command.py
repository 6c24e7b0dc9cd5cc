"""Polygraphy's own command line on an exported file, with nothing of this package on it."""

import subprocess
import sys

import pytest

from nvfp4_trt.comparison import compare_onnx, compare_saved


def polygraphy(*arguments, cwd):
    call = "import sys; from polygraphy.tools import main; sys.argv[0] = 'polygraphy'; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", call, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture
def saved(exported, batches, tmp_path):
    options = {"save_inputs": tmp_path / "inputs.json", "save_outputs": tmp_path / "reference.json"}
    return compare_onnx(exported.path, exported.module, batches, reference_name="model.pt", **options)


def test_run_against_saved_outputs(exported, saved, tmp_path):
    worst = max(output.max_abs_error for output in saved.outputs)
    common = [
        "run",
        exported.path,
        "--onnxrt",
        "--load-inputs",
        "inputs.json",
        "--load-outputs",
        "reference.json",
    ]
    common += ["--check-error-stat", "max", "--rtol", "0", "--atol"]
    passed = polygraphy(*common, f"{worst * 1.01:.9f}", cwd=tmp_path)
    assert passed.returncode == 0, passed.stdout + passed.stderr
    assert "2/2 iterations" in passed.stdout
    failed = polygraphy(*common, f"{worst * 0.99:.9f}", cwd=tmp_path)
    assert failed.returncode == 1


def test_run_alone_and_compare_with_what_it_saved(exported, tmp_path):
    made = polygraphy(
        *["run", exported.path, "--onnxrt", "--input-shapes", "x:[3,64]"],
        *["--save-inputs", "in.json", "--save-outputs", "out.json"],
        cwd=tmp_path,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    compare_saved(exported.path, tmp_path / "out.json", tmp_path / "in.json").check(max_abs_error=0.0)
