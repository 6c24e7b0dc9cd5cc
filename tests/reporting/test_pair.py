"""Two models on one page."""

import json
import re

import pytest

import nvfp4_trt
from nvfp4_trt.errors import ReportInvalidError
from nvfp4_trt.reporting import collect, read_report
from nvfp4_trt.reporting.difference import layers_of_both, lines, recipe_differences


@pytest.fixture(scope="module")
def other(made, tmp_path_factory):
    path = tmp_path_factory.mktemp("other") / "other.onnx"
    options = {"exclude": ["pooler"], "fp8": ["out"]}
    nvfp4_trt.export(made.module, path, recipe="w4a4-dynamic", inputs=[made.batch], **options)
    return path


def test_a_file_and_a_page(page, other, tmp_path):
    made = nvfp4_trt.report(page.path, tmp_path / "pair.html", other=other)
    assert (made.report, made.other) == (page.report, collect(other))
    with pytest.raises(ReportInvalidError, match=r"pair\.html"):
        read_report(made.page)
    text = made.page.read_text("utf-8")
    assert "heads.onnx" in text
    assert "other.onnx" in text


def test_what_differs(page, other):
    second = collect(other)
    both = {each.name: each for each in layers_of_both(page.report, second)}
    assert (both["out"].first.precision, both["out"].second.precision) == ("nvfp4", "fp8")
    assert both["pooler"].second.precision == "float32"
    told = {line.label: line for line in lines(page.report, second)}
    assert told["Layers in FP4"][1:] == ("5", "3", "-2")
    assert told["Engine"].second == "-"
    assert {key for key, *_ in recipe_differences(page.report, second)} == {
        "activations.scaling",
        "exclude",
        "fp8",
        "name",
    }
    assert recipe_differences(second, second) == []


def test_the_same_twice(page, tmp_path):
    made = nvfp4_trt.report(page.path, tmp_path / "pair.html", other=page.path)
    assert {line.change for line in lines(made.report, made.other)} == {"+0", "+0.0 %"}
    assert "heads.onnx (2)" in made.page.read_text("utf-8")


def test_the_command(page, other, run, tmp_path):
    path = tmp_path / "pair.html"
    ran = run(page.path, other, "-o", path, "--json")
    assert ran.status == 0
    assert set(json.loads(ran.out)) == {"html", "report", "other"}
    ran = run(page.path, other, "-o", path)
    assert re.search(r"Layers in FP4 +5 +3 +-2", ran.out)
    (tmp_path / "no.html").write_text("<p>no report</p>")
    assert "error[report-invalid]" in run(other, tmp_path / "no.html", "-o", path).err
