"""The training sample: its data, and the whole demo with its own figures."""

import re
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # samples are not installed with the package

from samples.qat import demo, task  # noqa: E402
from samples.qat.task import Score  # noqa: E402


def test_no_image_is_in_both_parts():
    training, held_out = task.images()
    assert len(training.pixels) + len(held_out.pixels) == 1797
    seen = {row.numpy().tobytes() for row in training.pixels}
    assert not any(row.numpy().tobytes() in seen for row in held_out.pixels)
    assert set(training.digits.tolist()) == set(held_out.digits.tolist()) == set(range(10))


def test_control_and_qat_see_the_same_batches():
    training, _ = task.images()
    seen = []
    for _ in range(2):
        model = task.network()
        shown = []
        model.register_forward_pre_hook(lambda _module, args, kept=shown: kept.append(args[0]))
        task.train(model, training, 3, seed=7)
        seen.append(torch.stack(shown))
    assert torch.equal(*seen)


def test_shares_are_of_what_the_control_loses():
    low, high = Score(0.2, 0.95), Score(0.4, 0.85)
    scores = demo.Scores(Score(9.0, 0.0), Score(9.0, 0.0), low, high, Score(0.25, 0.90))
    assert scores.recovered() == pytest.approx((0.75, 0.5))


@pytest.mark.long
def test_the_demo_recovers_half_of_what_fp4_costs(tmp_path, capsys):
    assert demo.main(["--output", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"recovered by QAT, against the control: \d+% of the loss", shown)
    assert "5 of 5 GEMMs are FP4" in shown
    converted = re.search(r"QAT, converted +([\d.]+) +([\d.]+%)", shown)
    on_ort = re.search(r"on ONNX Runtime: loss ([\d.]+), accuracy ([\d.]+%)", shown)
    assert float(on_ort[1]) == pytest.approx(float(converted[1]), abs=0.002)


def test_the_demo_fails_when_a_step_fails(tmp_path, capsys):
    (tmp_path / "digits.onnx").mkdir()
    arguments = ["--steps", "2", "--further-steps", "2", "--output", str(tmp_path)]
    assert demo.main(arguments) == 2
    assert "error[output-unwritable]" in capsys.readouterr().out
