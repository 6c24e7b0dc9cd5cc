"""The serving sample: its requests, and the whole demo."""

import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # samples are not installed with the package

from samples.serving import demo  # noqa: E402


def test_requests_are_of_many_shapes_and_padded_no_further_than_their_longest():
    made = demo.requests()
    shapes = [feed["attention_mask"].shape for feed in made]
    assert len(set(shapes)) == len(shapes)
    assert max(batch for batch, _ in shapes) > 8, "more rows than a bucket has"
    assert max(sequence for _, sequence in shapes) > 128, "longer than a bucket"
    for feed in made:
        assert feed["attention_mask"].sum(axis=1).max() == feed["attention_mask"].shape[1]


def test_embeddings_are_means_under_the_mask():
    hidden = np.array([[[3.0, 4.0], [5.0, 6.0], [100.0, 100.0]]])
    got = demo.embed(hidden, np.array([[1, 1, 0]]))
    np.testing.assert_allclose(got, np.array([[4.0, 5.0]]) / np.sqrt(41))


@pytest.mark.long
def test_the_demo(tmp_path, capsys):
    assert demo.main(["--share-weights", "--backend", "onnxruntime", "--output", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    for part in (
        "one engine, the weights once",
        "Requests on onnxruntime",
        "dynamic",
        "8x32, 8x32",
        "refused: no",
    ):
        assert part in shown
    assert (tmp_path / "set" / "manifest.json").is_file()


@pytest.mark.long
def test_the_demo_fails_when_a_step_fails(tmp_path, capsys):
    (tmp_path / "encoder.onnx").mkdir()
    assert demo.main(["--output", str(tmp_path)]) == 2
    assert "error[output-unwritable]" in capsys.readouterr().out
