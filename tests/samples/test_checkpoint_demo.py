"""The checkpoint sample: one checkpoint through the whole demo, and that it sees a bit that is not the same."""

import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # samples are not installed with the package

from nvfp4_trt.checkpoints import read_checkpoint  # noqa: E402
from samples.checkpoint import demo  # noqa: E402


def test_the_demo_and_that_it_counts(tmp_path, capsys):
    assert demo.main(["--peer", "torchao", "--output", str(tmp_path)]) == 0
    assert re.search(r"torchao +2 +5,184( +2 of 2){4}", capsys.readouterr().out)

    folder = tmp_path / "torchao"
    weights = list(read_checkpoint(folder / "torchao.safetensors").weights.values())
    changed = replace(weights[0], packed=weights[0].packed ^ 1)
    assert not demo.same(weights[0], changed)
    for count, file in ((demo.in_portable, "model.onnx"), (demo.in_lowered, "model.trt.onnx")):
        assert count([changed, *weights[1:]], folder / file) == len(weights) - 1


def test_a_folder_of_an_earlier_run_is_not_written_into(tmp_path, capsys):
    (tmp_path / "modelopt").mkdir()
    with pytest.raises(SystemExit):
        demo.main(["--peer", "modelopt", "--output", str(tmp_path)])
    assert "modelopt exists: remove it" in capsys.readouterr().err


def test_what_is_missing_is_told_by_the_status():
    whole = demo.Found(weights=2, packed_bytes=9, back=2, portable=2, lowered=2, asked=2, fp4=2)
    assert whole.whole
    for lost in ("back", "portable", "lowered", "fp4"):
        assert not replace(whole, **{lost: 1}).whole
