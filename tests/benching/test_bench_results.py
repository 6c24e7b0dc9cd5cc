"""What samples of engines come to, written and read back."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

import nvfp4_trt
from nvfp4_trt.benching import SCHEMA, Bench, Candidate, load_bench
from nvfp4_trt.benching.bench import row
from nvfp4_trt.errors import BenchInvalidError, FileMissingError
from nvfp4_trt.printing.bench import bench_summary
from nvfp4_trt.timing import Measured

RECORD = SimpleNamespace(profile={"x": ((1, 64), (8, 64), (32, 64))})


@pytest.fixture
def engine(tmp_path):
    path = tmp_path / "model.engine"
    path.write_bytes(bytes(1000))
    return path


def feed(rows=8):
    return {"x": np.zeros((rows, 64), np.float32)}


def bench(*rows):
    return Bench(
        gpu="rtx5090",
        device="NVIDIA GeForce RTX 5090",
        architecture="sm_120",
        driver="580.95.05",
        backend="tensorrt_rtx",
        version="1.7",
        modelled_on="rtx5090",
        results=rows,
    )


def test_a_row(engine):
    found = row(Candidate(engine, modelled_ms=0.25), RECORD, feed(), Measured([0.4, 0.5, 0.6], [0.2, 0.3]), 2**20)
    assert (found.median_ms, found.plain.median_ms, found.batch) == (0.25, 0.5, 8)
    assert found.rows_per_second == pytest.approx(32_000)
    assert found.modelled_ms == 0.25
    assert (found.shape, found.engine_bytes, found.peak_bytes) == ({"x": (8, 64)}, 1000, 2**20)


def test_without_a_graph_launches_count(engine):
    found = row(Candidate(engine), RECORD, feed(), Measured([0.4, 0.5], (), "it waits"), 0)
    assert (found.median_ms, found.graph, found.graph_refused) == (0.45, None, "it waits")


def test_a_modelled_time_is_for_the_shapes_that_it_was_modelled_at(engine):
    known = Candidate(engine, "bf16", 0.75)
    assert row(known, RECORD, feed(), Measured([0.4], ()), 0).modelled_ms == 0.75
    assert row(known, RECORD, feed(16), Measured([0.4], ()), 0).modelled_ms is None
    assert row(known, None, feed(), Measured([0.4], ()), 0).modelled_ms == 0.75


def test_written_and_read_back(engine, tmp_path):
    first = row(Candidate(engine), RECORD, feed(), Measured([0.4], [0.2]), 5)
    second = row(Candidate(engine, "bf16", 0.5), None, feed(), Measured([0.9], [0.5]), 5)
    made = bench(first, second)
    made.save(tmp_path / "bench.json")
    assert load_bench(tmp_path / "bench.json") == made == nvfp4_trt.load_bench(tmp_path / "bench.json")
    told = json.loads((tmp_path / "bench.json").read_text())
    assert (told["schema"], told["gpu"]) == (SCHEMA, "rtx5090")
    assert {"name", "shape", "precision", "median_ms", "modelled_ms"} <= set(told["results"][0])
    (tmp_path / "printed.json").write_text(json.dumps(made.as_dict()))
    assert load_bench(tmp_path / "printed.json") == made
    assert made.speedup == pytest.approx(2.5)
    assert bench(first).speedup is None


def test_what_people_see(engine):
    first = row(Candidate(engine), RECORD, feed(), Measured([0.4], [0.2]), 3 * 2**20)
    second = row(Candidate(engine, "bf16"), None, feed(), Measured([0.5], (), "it waits"), 5)
    console = Console(width=250)
    with console.capture() as captured:
        console.print(*bench_summary(bench(first, second), Path("b.json")), sep="\n")
    shown = captured.get()
    assert "0.2000" in shown
    assert "bf16 takes 2.50 times as long" in shown
    assert "cannot be a CUDA graph: it waits" in shown
    assert "3.0 MiB" in shown
    assert "wrote b.json" in shown


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "Invalid JSON"),
        ('{"error": {"code": "gpu-missing"}}', "gpu"),
        ('{"schema": "nvfp4-trt/bench/2", "results": []}', "schema"),
        ("\udcff", "holds no measurements"),
    ],
)
def test_files_that_hold_something_else(tmp_path, text, said):
    (tmp_path / "b.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(BenchInvalidError, match=SCHEMA) as caught:
        load_bench(tmp_path / "b.json")
    assert said in caught.value.message
    with pytest.raises(FileMissingError):
        load_bench(tmp_path / "c.json")
