"""The accuracy benchmark's own code, on the sentence encoder and few texts."""

import sys
from pathlib import Path

import pytest
from rich.console import Console

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def accuracy():
    sys.path.insert(0, str(FOLDER))
    try:
        import accuracy
    finally:
        sys.path.remove(str(FOLDER))
    return accuracy


@pytest.fixture(scope="module")
def rows(accuracy):
    from tasks import minilm

    task = minilm.make(calibration=8, held_out=8)
    task.module.eval().requires_grad_(False)
    chosen = [*accuracy.PEERS, accuracy.ALL["max"]]
    return list(accuracy.measure(task, chosen))


def test_ours_with_max_is_as_near_as_the_peer(rows):
    found = {(row.method, row.mode): row for row in rows}
    ours, theirs = found["max", "weight-only"], found["torchao", "weight-only"]
    assert ours.sqnr_db == pytest.approx(theirs.sqnr_db, abs=0.1)
    assert 10 < found["max", "per tensor"].sqnr_db < ours.sqnr_db
    assert ours.bits == pytest.approx(4.5, abs=0.01)
    assert 0.9 < ours.cosine < 1


def test_every_mode_is_measured(accuracy, rows):
    assert {row.mode for row in rows if row.method == "max"} == set(accuracy.MODES)
    assert [row.method for row in rows].count("torchao") == 2
    assert {row.mode for row in rows if row.method == "compressed-tensors"} == {"weight-only", "static"}


def test_calibration_and_measured_texts_are_different():
    from tasks.docstrings import pairs

    texts = [text for pair in pairs() for text in pair]
    assert len(set(texts)) == len(texts)
    assert len(texts) >= 2 * (128 + 64)


def test_the_table_has_a_column_for_each_method(accuracy, rows):
    console = Console(width=200)
    with console.capture() as capture:
        console.print(accuracy.table(rows))
    text = capture.get()
    assert "torchao" in text
    assert "bits a weight" in text


def test_block_scales_alone_lose_small_weights(accuracy):
    found = accuracy.small_weights()
    assert found["single-level"] < 1
    assert found["two-level"] > 20
