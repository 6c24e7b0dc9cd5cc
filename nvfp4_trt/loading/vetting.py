"""Deciding whether a `.pt2` archive can be loaded without running code that it carries.

`torch.export.load` trusts its file. It unpickles payloads, falls back from `weights_only` to the whole of
pickle, loads compiled libraries, imports modules named in tree specs, evaluates shape expressions with
`sympy.sympify` (which is `eval`), resolves operators by attribute access, and writes names into source
that it executes. So everything that such a file says is compared with what an ordinary program says, and
whatever else it says needs trust. docs/loading.md lists each path with the test that exercises it.
"""

from __future__ import annotations

import ast
import io
import json
import pickle
import re
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch._C import PyTorchFileReader

_PAYLOAD_CONFIG = re.compile(r"data/(weights|constants)/[^/]+_(weights|constants)_config\.json")
_RAW_PAYLOAD = re.compile(r"(weight|tensor)_\d+")
_LEGACY_PAYLOAD = re.compile(r"data/(weights|constants)/[^/]*\.pt")

# Names end up in generated source: as variables, or between quotes after a dot-wise split.
_VARIABLE = re.compile(r"(?!__)[A-Za-z_]\w*|")
_QUALIFIED = re.compile(r"(?!(?:.*\.)?__)[\w.:/-]*")
_TREE_TEXT = re.compile(r"[\w.:/ -]*")
_TREE_TYPES = re.compile(
    r"builtins\.(tuple|list|dict)|collections\.OrderedDict|transformers\.modeling_outputs\.\w+"
)

_OPERATOR = re.compile(
    r"torch\.ops\.(?:aten|prims)\.(?!from_file)\w+\.\w+"
    r"|torch\.ops\.higher_order\.(?:wrap_with_set_grad_enabled|wrap_with_autocast|cond|while_loop|scan)"
    r"|torch\.sym_(?:not|int|float|ite|max|min|sqrt|sum|fresh_size)"
    r"|_operator\.(?:eq|ne|le|ge|lt|gt|neg|pos|mul|add|sub|floordiv|truediv|mod|pow|and_|or_|not_|getitem"
    r"|lshift|rshift)"
    r"|math\.(?:trunc|ceil|floor|sqrt)"
)
_EXPRESSION_CALLS = {
    "Symbol", "Integer", "Rational", "Float", "Add", "Mul", "Pow", "Max", "Min", "Abs", "Eq", "Ne",
    "Equality", "Unequality", "StrictLessThan", "LessThan", "StrictGreaterThan", "GreaterThan", "And", "Or",
    "Not", "floor", "ceiling", "FloorDiv", "ModularIndexing", "Where", "PythonMod", "Mod", "CleanDiv",
    "CeilToInt", "FloorToInt", "CeilDiv", "LShift", "RShift", "PowByNatural", "FloatPow", "FloatTrueDiv",
    "IntTrueDiv", "IsNonOverlappingAndDenseIndicator", "TruncToFloat", "TruncToInt", "RoundToInt",
    "RoundDecimal", "ToFloat", "Identity",
}  # fmt: skip
_EXPRESSION_NODES = (
    ast.Expression, ast.Call, ast.Load, ast.keyword, ast.BinOp, ast.UnaryOp,
    ast.Compare, ast.operator, ast.unaryop, ast.cmpop,
)  # fmt: skip


def unsafe_parts(reader: PyTorchFileReader) -> list[str]:
    """Return what in an archive could run code: nothing for what `torch.export.save` ordinarily writes.

    Args:
        reader: torch's own reader, on the open file that will be loaded, so that both see one directory.
    """
    names = reader.get_all_records()
    if len(set(names)) != len(names):
        return ["several entries of one name"]
    found: list[str] = []
    for name in names:
        if name.startswith(("data/aotinductor/", "data/executorch/")):
            found.append(f"compiled code ({name})")
        elif _LEGACY_PAYLOAD.fullmatch(name):
            found.append(f"a pickle ({name})")
        elif name.startswith("data/sample_inputs/"):
            found += _in_sample_inputs(name, reader.get_record(name))
        elif _PAYLOAD_CONFIG.fullmatch(name):
            found += _in_payloads(name, _json(reader.get_record(name)))
        elif name.startswith("models/"):
            found += [f"{what} ({name})" for what in _in_program(_json(reader.get_record(name)))]
    return list(dict.fromkeys(found))


def _json(data: bytes) -> Any:
    # a damaged text is no danger: the loader, which reads it the same way, refuses it
    try:
        return json.loads(data)
    except ValueError:
        return None


def _in_sample_inputs(name: str, data: bytes) -> Iterator[str]:
    try:
        if data:
            torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    except (
        pickle.UnpicklingError,
        RuntimeError,
        ValueError,
        EOFError,
        LookupError,
        TypeError,
        AttributeError,
    ):
        yield f"a pickle that is more than tensors ({name})"


def _in_payloads(name: str, config: Any) -> Iterator[str]:
    entries = config.get("config") if isinstance(config, dict) else None
    for fqn, payload in (entries if isinstance(entries, dict) else {}).items():
        if not isinstance(payload, dict):
            continue
        if payload.get("use_pickle") is not False or not _RAW_PAYLOAD.fullmatch(str(payload.get("path_name"))):
            yield f"a pickled object ({name}: {fqn[:60]!r})"
        if not _QUALIFIED.fullmatch(fqn):
            yield f"a name that is none ({fqn[:60]!r})"


def _in_program(program: Any) -> Iterator[str]:
    """Walk a program's JSON; each text is checked by the key that it stands under."""
    stack: list[tuple[str, Any]] = [("", program)]
    while stack:
        key, value = stack.pop()
        if isinstance(value, dict) and key in _MAPS:
            # here the keys are the file's own, so none of them may pass for one of the schema's
            yield from (f"a name that is none ({k[:60]!r})" for k in value if not _VARIABLE.fullmatch(k))
            stack += [("", v) for v in value.values()]
        elif isinstance(value, dict):
            stack += [(k, v) for k, v in value.items() if k not in _UNREAD]
        elif isinstance(value, list):
            stack += [(key, item) for item in value]
        elif isinstance(value, str) and key in _CHECKS:
            check, what = _CHECKS[key]
            if not check(value):
                yield f"{what} ({value[:80]!r})"
        if key in _REFUSED and value not in (None, {}):
            yield f"a {key.removeprefix('as_').removesuffix('_values').replace('_', ' ')}"


def _is_expression(text: str) -> bool:
    """Whether a shape expression is built of symbols, numbers and the calls that sympy prints."""
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    names: set[int] = set()  # the texts that are a symbol's name or a number's digits
    for node in nodes:
        if isinstance(node, ast.Call):
            if not isinstance(node.func, ast.Name) or node.func.id not in _EXPRESSION_CALLS:
                return False
            if node.func.id in {"Symbol", "Float"}:
                names.update(id(argument) for argument in node.args[:1])
    return all(_is_expression_node(node, named=id(node) in names) for node in nodes)


def _is_expression_node(node: ast.AST, *, named: bool) -> bool:
    if isinstance(node, ast.Name):
        return node.id in _EXPRESSION_CALLS or re.fullmatch(r"(s|u|zf|zuf|oo|int_oo)\d*", node.id) is not None
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            return named and re.fullmatch(r"[\w.+-]+", node.value) is not None
        return isinstance(node.value, (bool, int, float))
    return isinstance(node, _EXPRESSION_NODES)


def _is_tree_spec(text: str) -> bool:
    """Whether a pytree's text names ordinary containers and no enum (whose module would be imported)."""
    try:
        spec = json.loads(text)
    except ValueError:
        return False
    stack: list[tuple[str, Any]] = [("", spec)]
    while stack:
        key, value = stack.pop()
        if isinstance(value, dict):
            if "__enum__" in value:
                return False
            stack += list(value.items())
        elif isinstance(value, list):
            stack += [("", item) for item in value]
        elif isinstance(value, str):
            if key == "type" and not _TREE_TYPES.fullmatch(value):
                return False
            if key == "context" and value[:1] in {"[", "{", '"'}:
                stack.append(("", _json(value.encode())))
            elif not _TREE_TEXT.fullmatch(value):
                return False
    return True


def _whole(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda text: pattern.fullmatch(text) is not None


_MAPS = {
    "tensor_values", "sym_int_values", "sym_float_values", "sym_bool_values", "custom_obj_values",
    "range_constraints", "as_string_to_argument", "opset_version",
}  # fmt: skip
# Read as text (`metadata`), or not at all: guards are neither compiled nor called by `programs.py`.
_UNREAD = {"metadata", "guards_code"}
_REFUSED = {"as_custom_obj", "custom_obj", "custom_obj_values", "as_operator"}
_CHECKS: dict[str, tuple[Callable[[str], bool], str]] = {
    "target": (_whole(_OPERATOR), "an operator that is not PyTorch's own"),
    "expr_str": (_is_expression, "a shape expression that is more than arithmetic"),
    "in_spec": (_is_tree_spec, "a container type that is not ordinary"),
    "out_spec": (_is_tree_spec, "a container type that is not ordinary"),
    "name": (_whole(_VARIABLE), "a name that is none"),
    "as_name": (_whole(_VARIABLE), "a name that is none"),
    "graph_name": (_whole(_VARIABLE), "a name that is none"),
    "forward_arg_names": (_whole(_VARIABLE), "a name that is none"),
    "fqn": (_whole(_QUALIFIED), "a name that is none"),
    "parameter_name": (_whole(_QUALIFIED), "a name that is none"),
    "buffer_name": (_whole(_QUALIFIED), "a name that is none"),
    "tensor_constant_name": (_whole(_QUALIFIED), "a name that is none"),
    "user_input_name": (_whole(_VARIABLE), "a name that is none"),
}
