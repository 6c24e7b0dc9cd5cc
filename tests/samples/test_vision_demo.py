"""The vision sample, with two of its layers and few images."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # samples are not installed with the package

from samples.vision import demo  # noqa: E402


@pytest.mark.long
def test_the_demo(tmp_path, capsys):
    few = ["--layers", "2", "--training", "96", "--held-out", "64"]
    assert demo.main([*few, "--output", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "12 of 12 layers are nvfp4" in shown
    before, after, sqnr = (float(number) for number in re.findall(r"([\d.]+)(?:%| dB)", shown))
    assert before > 60
    assert after == pytest.approx(before, abs=10)
    assert sqnr > 15
