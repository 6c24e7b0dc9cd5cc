"""Measured times on the page."""

import json

import pytest

import nvfp4_trt
from nvfp4_trt.benching import Bench, Candidate
from nvfp4_trt.benching.bench import row
from nvfp4_trt.errors import BenchInvalidError, WrongKindError
from nvfp4_trt.reporting import read_report
from nvfp4_trt.timing import Measured


@pytest.fixture(scope="module")
def engine(portable, tmp_path_factory):
    given = portable("rows")
    path = tmp_path_factory.mktemp("times") / "rows.engine"
    nvfp4_trt.build(given.path, path, optimize="off", cache=False)
    return given, path


def times(given, engine, folder):
    """Write what `bench` would, of samples that are made up."""
    rows = (
        row(Candidate(engine, modelled_ms=0.5), None, given.feeds, Measured([0.75], [0.625]), 5 * 2**20),
        row(Candidate(engine, "bf16"), None, given.feeds, Measured([1.5], [1.25]), 9 * 2**20),
    )
    made = Bench(
        gpu="rtx5090", device="NVIDIA <b>GeForce</b>", architecture="sm_120", driver="580", backend="tensorrt_rtx",
        version="1.7", modelled_on="rtx5090", results=rows,
    )  # fmt: skip
    made.save(folder / "bench.json")
    return folder / "bench.json", made


def test_the_page_has_them(engine, tmp_path):
    given, built = engine
    file, made = times(given, built, tmp_path)
    nvfp4_trt.report(given.path, tmp_path / "r.html", engine=built, bench=file)
    page = (tmp_path / "r.html").read_text("utf-8")
    shown = page[: page.index('id="report-data"')]
    assert 'id="measured-table"' in shown
    for text in ("0.6250", "0.7500", "0.5000", "1.2500", "bf16 takes 2.00 times as long"):
        assert text in shown
    assert "<b>GeForce" not in page
    assert read_report(tmp_path / "r.html").bench == made


def test_without_them_the_page_says_how(engine, tmp_path):
    given, built = engine
    nvfp4_trt.report(given.path, tmp_path / "r.html", engine=built)
    page = (tmp_path / "r.html").read_text("utf-8")
    assert "nvfp4-trt bench rows.engine -o bench.json" in page
    assert read_report(tmp_path / "r.html").bench is None


def test_times_of_another_engine(engine, tmp_path):
    given, built = engine
    other = tmp_path / "other.engine"
    other.write_bytes(b"engine")
    file, _ = times(given, other, tmp_path)
    with pytest.raises(WrongKindError, match=r"the times are of other\.engine"):
        nvfp4_trt.report(given.path, tmp_path / "r.html", engine=built, bench=file)
    with pytest.raises(WrongKindError, match="and not of the engine"):
        nvfp4_trt.report(given.path, tmp_path / "r.html", bench=file)
    (tmp_path / "b.json").write_text(json.dumps({"schema": "nvfp4-trt/bench/9"}))
    with pytest.raises(BenchInvalidError):
        nvfp4_trt.report(given.path, tmp_path / "r.html", engine=built, bench=tmp_path / "b.json")
    assert not (tmp_path / "r.html").exists()
