"""`nvfp4-trt explain`."""

import pytest

from nvfp4_trt.explanations import explanations


@pytest.mark.parametrize("code", sorted(explanations()))
def test_every_code(run, code):
    told = run("explain", code, "--json").json
    assert told == explanations()[code].as_dict()
    lines = run("explain", code).out.splitlines()
    assert lines[0].startswith(f"{code} (exit status {told['exit_status']}): ")
    assert "Likely causes:" in lines
    assert not any("](" in line for line in lines)


def test_all_codes(run):
    told = run("explain", "--json").json
    assert [each["code"] for each in told["codes"]] == list(explanations())
    assert "fp4-lost" in run("explain").out


def test_an_unknown_code(fails):
    error = fails(("explain", "fp4-lots"), status=2, code="code-unknown", said="'fp4-lots'")
    assert "fp4-lost" in error["hint"]
