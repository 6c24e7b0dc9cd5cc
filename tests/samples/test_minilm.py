"""The sentence-encoder sample: its inputs, and its demo with one recipe."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from nvfp4_trt import check

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # samples are not installed with the package

from samples.minilm import demo, inputs, sentences  # noqa: E402


@pytest.mark.parametrize(
    ("batches", "expected"), [(inputs.calibration, sentences.CALIBRATION), (inputs.test, sentences.TEST)]
)
def test_inputs_are_padded_batches_of_every_sentence(batches, expected):
    made = list(batches())
    assert sum(len(batch["input_ids"]) for batch in made) == len(expected)
    assert len({batch["input_ids"].shape[1] for batch in made}) > 2, "one sequence length proves little"
    for batch in made:
        assert list(batch) == ["input_ids", "attention_mask"]
        ids, mask = batch.values()
        assert ids.dtype == mask.dtype == torch.int64
        assert ids.shape == mask.shape
        lengths = mask.sum(1)
        assert lengths.max() == ids.shape[1], "padded further than the longest sentence"
        assert torch.equal(mask, (torch.arange(ids.shape[1]) < lengths[:, None]).long())
        assert not ids[mask == 0].any()
        assert (ids[:, 0] == 101).all(), "[CLS]"
        assert (ids.gather(1, lengths[:, None] - 1) == 102).all(), "[SEP]"


def test_no_sentence_is_in_both_sets():
    assert len({*sentences.CALIBRATION, *sentences.TEST}) == len(sentences.CALIBRATION) + len(sentences.TEST)


def test_embeddings_of_the_float_encoder_know_what_is_alike():
    got = demo.embeddings(demo.torch_runner())
    assert got.shape == (len(sentences.TEST), 384)
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-5)
    order = {text: row for row, text in enumerate(sentences.TEST)}
    bakery = got[order["The bakery is usually empty by nine in the morning."]]
    alike = bakery @ got[order["The baker sells out before nine."]]
    other = bakery @ got[order["A puppy growled at the mirror."]]
    assert alike > other + 0.2


def test_sqnr_is_that_of_its_formula():
    assert demo.sqnr_db(np.array([3.0, 4.0]), np.array([3.0, 3.5])) == pytest.approx(20.0)


def test_commands_name_every_step():
    text = "\n".join(demo.command_lines(Path("out")))
    for step in ("export", "build engine", "inspect", "compare"):
        assert f"nvfp4-trt {step} " in text


@pytest.mark.long
def test_the_demo_runs_the_default_recipe(tmp_path, capsys):
    assert demo.main(["--recipe", "w4a4-dynamic-token", "--output", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "37/37" in shown
    assert "encoder.layer.0.intermediate.dense, for one:" in shown
    stem = tmp_path / "w4a4-dynamic-token"
    for suffix in (".onnx", ".trt.onnx", ".engine", ".engine.json"):
        assert stem.with_name(stem.name + suffix).stat().st_size > 0
    record = json.loads(stem.with_name(stem.name + ".engine.json").read_text())
    assert record["targets"] == ["sm_120"]
    assert all(layer["realized"] for layer in record["audit"]["layers"])
    realized = {layer["name"] for layer in record["audit"]["layers"]}
    found = []
    for source, batches in (
        (inputs.model_folder(), "samples.minilm.inputs:test"),
        (stem.with_name(stem.name + ".onnx"), None),
    ):
        layers = check(source, inputs=batches).layers
        assert {layer.name for layer in layers if layer.precision == "nvfp4"} == realized
        found.append({layer.name: (layer.precision, layer.code) for layer in layers})
    assert found[0] == found[1]
    assert len(found[0]) > len(realized), "attention has no row"


@pytest.mark.long
def test_the_demo_fails_when_a_step_fails(tmp_path, capsys):
    (tmp_path / "w4a4-static.onnx").mkdir()
    assert demo.main(["--recipe", "w4a4-static", "--output", str(tmp_path)]) == 2
    assert "error[output-unwritable]" in capsys.readouterr().out
