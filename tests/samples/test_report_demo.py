"""The report sample, with an encoder of one layer and without engines."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # samples are not installed with the package

from nvfp4_trt.reporting import read_report  # noqa: E402
from samples.report import demo  # noqa: E402


@pytest.mark.long
def test_the_demo(tmp_path, capsys):
    assert demo.main(["--depth", "1", "--batches", "1", "--no-engine", "--output", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    losses = [float(loss) for loss in re.findall(r"last_hidden_state ([\d.]+) dB", shown)]
    assert losses[1] > losses[0] > 10, "layers in FP8 lose less"
    first, second = (read_report(tmp_path / f"{name}.html") for name in ("fp4", "mixed"))
    assert {layer.precision for layer in first.layers if layer.kind} == {"nvfp4"}
    kept = {layer.name for layer in second.layers if layer.precision == "fp8"}
    assert kept == {"encoder.layer.0.attention.output.dense", "encoder.layer.0.output.dense"}
    assert all(layer.error and layer.activations for layer in first.layers if layer.kind)
    assert (tmp_path / "both.html").is_file()


def test_the_demo_fails_when_a_step_fails(tmp_path, capsys):
    (tmp_path / "fp4.onnx").mkdir()
    assert demo.main(["--depth", "1", "--no-engine", "--output", str(tmp_path)]) == 2
    assert "error[output-unwritable]" in capsys.readouterr().out
