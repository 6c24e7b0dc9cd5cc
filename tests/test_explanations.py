"""What `explain` tells, against the messages in the code."""

import ast
import re
from pathlib import Path

import pytest

import nvfp4_trt
from nvfp4_trt import errors
from nvfp4_trt.errors import UnknownCodeError
from nvfp4_trt.explanations import explain, explanations

ROOT = Path(__file__).parents[1]
CLASSES = {
    name: kind.code
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, errors.Nvfp4Error) and kind is not errors.Nvfp4Error
}


def _template(node):
    """Return a regular expression for the texts that an expression gives."""
    match node:
        case ast.Constant():
            return re.escape(str(node.value))
        case ast.JoinedStr():
            return "".join(map(_template, node.values))
        case ast.BinOp():
            return _template(node.left) + _template(node.right)
        case _:
            return ".*"


def _messages():
    """Return each error code's messages in the code, as regular expressions."""
    found = {}
    for path in (ROOT / "nvfp4_trt").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            code = CLASSES.get(getattr(getattr(node, "func", None), "id", ""))
            if code and node.args:
                found.setdefault(code, []).append(_template(node.args[0]))
    return found


def test_examples_end_with_messages_that_the_code_has():
    messages = _messages()
    chosen = {"fp4-lost", "fp8-lost"}  # their class is chosen at run time, so that no call names it
    assert chosen.isdisjoint(messages)
    for code in set(CLASSES.values()) - chosen:
        said = explanations()[code].example[-1].split(": ", 1)[1]
        # The end of a log, which a message may end with, is not in the example.
        patterns = [pattern.removesuffix("\\\n.*") for pattern in messages[code] if pattern.strip(".*")]
        assert any(re.fullmatch(pattern, said) for pattern in patterns), f"{code}: {said}"


@pytest.mark.parametrize("asked", ["fp4-lost", "error[fp4-lost]", "error[fp4-lost]:", "FP4_LOST"])
def test_a_code_as_it_is_printed_or_typed(asked):
    assert nvfp4_trt.explain(asked) is explain("fp4-lost")
    assert explain(asked).exit_status == 1


def test_an_unknown_code():
    with pytest.raises(UnknownCodeError, match="'fp4-lots'") as caught:
        explain("fp4-lots")
    assert "fp4-lost" in caught.value.hint
    with pytest.raises(UnknownCodeError) as caught:
        explain("zzz")
    assert "lists all codes" in caught.value.hint
