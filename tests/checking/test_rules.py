"""The rules as data: documented, in order, their sentences whole, and each with the test that its page names."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from nvfp4_trt.checking import RULES
from nvfp4_trt.checking.checked import Checked
from nvfp4_trt.checking.facts import Facts, Operand
from nvfp4_trt.checking.rules import Verdict, judge
from nvfp4_trt.errors import NotFp4Error, PatternMatchesNothingError

ROOT = Path(__file__).parents[2]
LINEAR = Facts(
    "fc", "Linear", (512, 512), "float16", n=512, k=512, left=Operand(False, "?"), right=Operand(True, "?")
)


def test_the_page_has_every_rule_in_order_and_its_test_exists():
    page = (ROOT / "docs" / "check.md").read_text("utf-8")
    rows = re.findall(r"^\| `([a-z0-9-]+)` \|.*\| `(test_\w+)` \|$", page, re.MULTILINE)
    assert [code for code, _ in rows] == [rule.code for rule in RULES]
    tests = "".join(path.read_text("utf-8") for path in (ROOT / "tests" / "checking").glob("test_*.py"))
    assert {test for _, test in rows} <= set(re.findall(r"^def (test_\w+)", tests, re.MULTILINE))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_sentences_name_what_facts_tell(rule):
    words = replace(LINEAR, told="why").words()
    assert rule.reason.format(**words)
    rule.remedy.format(**words)


def test_nothing_is_said_of_a_layer_that_is_fp4_and_large():
    assert judge(LINEAR) == Verdict("fc", "Linear", (512, 512), "nvfp4")


@pytest.mark.parametrize(
    ("k", "remedy"), [(1000, "1000 to 1008"), (16, "16 to 32"), (8, "8 to 32"), (33, "33 to 48")]
)
def test_the_nearest_k_that_is_fp4_is_named(k, remedy):
    assert judge(replace(LINEAR, k=k)).remedy == f"pad K from {remedy}: `export --fix`"


def checked(**precisions):
    return Checked(
        "m", False, tuple(Verdict(n, "Linear", (), p, reason=f"{n} why") for n, p in precisions.items())
    )


def test_required_layers():
    found = checked(a="nvfp4", b="float16", c="nvfp4-weight-only")
    found.require(["a"])
    with pytest.raises(NotFp4Error, match=r"2 of 3 required layers would not be FP4: b \(b why\); c \(c why\)"):
        found.require(["*"])
    with pytest.raises(PatternMatchesNothingError):
        found.require(["a", "nothing"])


def test_counts_begin_with_fp4():
    assert list(checked(b="float16", c="float16").counts().items()) == [("nvfp4", 0), ("float16", 2)]
