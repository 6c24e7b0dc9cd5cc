"""The decoder sample: its figures on logits that are known, and the demo with one layer."""

import math
import re
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # samples are not installed with the package

from samples.gpt import demo  # noqa: E402


def test_figures_are_of_their_formulas():
    expected = torch.tensor([[[0.0, math.log(3.0)]] * 3])
    even = torch.zeros(1, 3, 2)
    ids = torch.tensor([[0, 1, 0]])
    found = demo.compare(expected, even, ids)
    assert found.count == 2
    assert found.perplexity == pytest.approx(2.0)
    assert found.float_perplexity == pytest.approx(math.sqrt(4 / 3 * 4))
    assert found.divergence == pytest.approx(math.log(2) - (math.log(4) - 0.75 * math.log(3)))
    assert demo.compare(expected, expected, ids).agreement == 1
    assert demo.compare(expected, -expected, ids).agreement == 0


@pytest.mark.long
def test_the_demo(tmp_path, capsys):
    assert demo.main(["--layers", "1", "--output", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "5 of 5 layers are nvfp4" in shown
    rows = re.findall(r"^ +(\d+) +(\d+) +([\d.]+) dB +(\d+)% +([\d.]+)", shown, re.MULTILINE)
    assert [(length, count) for length, count, *_ in rows] == [("16", "60"), ("48", "188"), ("96", "380")]
    for *_, sqnr, same, divergence in rows:
        assert float(sqnr) > 8
        assert int(same) > 50
        assert 0 < float(divergence) < 0.5


def test_the_demo_fails_when_a_step_fails(tmp_path, capsys):
    (tmp_path / "gpt.onnx").mkdir()
    assert demo.main(["--layers", "1", "--output", str(tmp_path)]) == 2
    assert "error[output-unwritable]" in capsys.readouterr().out
