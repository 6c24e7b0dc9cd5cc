"""The page as text: the same each time, asking for nothing, with every name escaped."""

import base64
import hashlib
import json
import re

import pytest

import nvfp4_trt
from nvfp4_trt.errors import FileMissingError, OutputUnwritableError, ReportInvalidError
from nvfp4_trt.reporting import read_report, render


def test_the_same_report_gives_the_same_page(page):
    assert render(page.report) == page.path.read_text("utf-8")


def test_nothing_outside_is_named(page):
    text = page.path.read_text("utf-8")
    markup = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:,)""", re.sub(r'xlink:href="#', "", markup))
    assert "@import" not in markup
    assert "url(http" not in markup


def test_only_its_own_script_may_run(page):
    text = page.path.read_text("utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    script = re.search(r'<script type="module">(.*?)</script>', text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:"
    )


def test_ids_are_unique(page):
    ids = re.findall(r'\bid="([^"]+)"', page.path.read_text("utf-8").split('<script type="module">')[0])
    assert len(ids) == len(set(ids))


def test_a_page_and_its_json_are_read_back(page, tmp_path):
    assert read_report(page.path) == page.report
    (tmp_path / "r.json").write_text(page.report.model_dump_json())
    assert read_report(tmp_path / "r.json") == page.report
    (tmp_path / "told.json").write_text(json.dumps({"report": page.report.model_dump(mode="json")}))
    assert read_report(tmp_path / "told.json") == page.report


@pytest.mark.parametrize("text", ["", "<p>a page</p>", '{"version": 2}', "[1]"])
@pytest.mark.parametrize("suffix", [".html", ".json"])
def test_what_is_no_report(tmp_path, text, suffix):
    path = tmp_path / f"x{suffix}"
    path.write_text(text)
    with pytest.raises(ReportInvalidError, match=f"x{suffix}"):
        read_report(path)
    with pytest.raises(FileMissingError):
        read_report(tmp_path / "no.html")


def test_the_command(made, page, run, tmp_path):
    path = tmp_path / "page.html"
    shown = run(made.onnx, "-o", path, "--json")
    told = json.loads(shown.out)
    assert (shown.status, told["html"]) == (0, str(path))
    assert told["report"] == page.report.model_dump(mode="json")
    assert path.read_text("utf-8") == page.path.read_text("utf-8")
    shown = run(made.onnx, "-o", path)
    assert shown.status == 0
    assert re.search(r"Audit: FP4 +5 of 5", shown.out)
    assert "no errors: nvfp4-trt report heads.onnx" in shown.out


def test_nothing_is_left_where_it_fails(made, run, tmp_path):
    shown = run(made.onnx, "-o", tmp_path / "p.html", "--engine", tmp_path / "e.engine")
    assert (shown.status, shown.err.split(":")[0]) == (2, "error[file-missing]")
    with pytest.raises(OutputUnwritableError):
        nvfp4_trt.report(tmp_path / "no.onnx", tmp_path / "no" / "page.html")
    assert list(tmp_path.iterdir()) == []
