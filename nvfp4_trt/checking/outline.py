"""Reading any ONNX file without its weights: parsed, checked for sense, functions inlined, shapes inferred."""

from __future__ import annotations

import contextlib
import graphlib
from typing import TYPE_CHECKING

import onnx
from google.protobuf.message import DecodeError
from onnx import inliner, shape_inference

from nvfp4_trt.causes import first_line
from nvfp4_trt.errors import NotAModelError, OnnxInvalidError
from nvfp4_trt.portable import DOMAIN, check_is_file, undecodable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from google.protobuf.message import Message

    Outer = frozenset[str]

TRT_DOMAIN = "trt"
_KEPT_BYTES = 1024
"""Constants up to this size keep their data: shapes, axes and the like."""
_OUR_DOMAINS = frozenset({DOMAIN, TRT_DOMAIN})


def read_outline(path: Path) -> onnx.ModelProto:
    """Read an ONNX file; no external data is opened, and the data of large constants is dropped.

    Returns:
        A model whose local functions are inlined, except those that stand for operators of NVFP4.

    Raises:
        FileMissingError: there is no such file.
        FileTruncatedError: it is empty, or ends too early.
        NotAModelError: it is not ONNX, or has no graph.
        OnnxInvalidError: its graph or functions are cyclic, not sorted, or read what nothing makes; or a name is
            not UTF-8.
    """
    model = _parsed(path)
    _check_text(model, path)
    for graph in graphs_of(model.graph):
        for tensor in graph.initializer:
            if len(tensor.raw_data) > _KEPT_BYTES:
                tensor.ClearField("raw_data")
    _check_calls(model, path)
    foreign = [(f.domain, f.name) for f in model.functions if f.domain not in _OUR_DOMAINS]
    _check_order(model.graph, frozenset(), path)
    if foreign:
        try:
            model = inliner.inline_selected_functions(model, foreign)
        except (RuntimeError, ValueError, DecodeError) as error:
            raise OnnxInvalidError(
                f"{path}: its functions cannot be inlined: {first_line(error)}", "run onnx.checker on it"
            ) from error
    return model


def infer_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy with the types and shapes that ONNX can infer; those that it cannot stay unknown.

    TensorRT's quantizer, which ONNX has no rule for, becomes an Identity in the copy: its codes have the shape of
    its input.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in copy.graph.node:
        if node.domain == TRT_DOMAIN and node.op_type == "TRT_FP4DynamicQuantize":
            node.domain, node.op_type = "", "Identity"
            del node.input[1:], node.output[1:], node.attribute[:]
    with contextlib.suppress(shape_inference.InferenceError, RuntimeError, ValueError, DecodeError):
        return shape_inference.infer_shapes(copy)
    return copy


def graphs_of(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield a graph and all that are inside its nodes."""
    yield graph
    for inner in subgraphs_of(graph.node):
        yield from graphs_of(inner)


def subgraphs_of(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.GraphProto]:
    """Yield the graphs that nodes hold as attributes (the branches of an If, the body of a Loop)."""
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield attribute.g
            yield from attribute.graphs


def _parsed(path: Path) -> onnx.ModelProto:
    check_is_file(path, "check the path")
    data = path.read_bytes()
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise undecodable(path) from error
    if not model.HasField("graph"):
        raise NotAModelError(f"{path} holds no ONNX graph", "give an .onnx file")
    return model


def _check_text(message: Message, path: Path) -> None:
    """Refuse names that are not UTF-8: protobuf hands those out as bytes."""
    for field, value in message.ListFields():
        one = isinstance(value, (str, bytes)) or hasattr(value, "ListFields")
        items = [value] if one else value
        if field.message_type is not None:
            for item in items:
                _check_text(item, path)
        elif field.type == field.TYPE_STRING:
            broken = next((text for text in items if isinstance(text, bytes)), None)
            if broken is not None:
                raise OnnxInvalidError(f"{path}: the {field.name} {broken!r} is not UTF-8", "export it again")


def _check_calls(model: onnx.ModelProto, path: Path) -> None:
    """Refuse functions that call themselves, directly or through others."""
    calls = {
        (f.domain, f.name): {(node.domain, node.op_type) for node in _all_nodes(f.node)} for f in model.functions
    }
    try:
        graphlib.TopologicalSorter(calls).prepare()
    except graphlib.CycleError as error:
        name = ":".join(error.args[1][0])
        raise OnnxInvalidError(f"{path}: the function {name} calls itself", "run onnx.checker on it") from error


def _all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    nodes = list(nodes)
    yield from nodes
    for graph in subgraphs_of(nodes):
        yield from _all_nodes(graph.node)


def _check_order(graph: onnx.GraphProto, outer: Outer, path: Path) -> None:
    """Refuse a graph in which a node reads what is not there yet."""
    known = {*outer, "", *(value.name for value in graph.input), *(t.name for t in graph.initializer)}
    known.update(tensor.values.name for tensor in graph.sparse_initializer)
    made: set[str] = set()
    for node in graph.node:
        missing = next((name for name in node.input if name not in known), None)
        if missing is not None:
            later = any(missing in other.output for other in graph.node)
            why = "made by no earlier node: it is cyclic, or not sorted" if later else "made by nothing"
            raise OnnxInvalidError(
                f"{path}: node {node.name or node.op_type!r} reads {missing!r}, which is {why}",
                "run onnx.checker on it, and export it again",
            )
        for inner in subgraphs_of([node]):
            _check_order(inner, frozenset(known), path)
        twice = next((name for name in node.output if name and name in made), None)
        if twice is not None:
            raise OnnxInvalidError(f"{path}: two nodes make {twice!r}", "run onnx.checker on it")
        made.update(node.output)
        known.update(node.output)
    for value in graph.output:
        if value.name not in known:
            raise OnnxInvalidError(f"{path}: nothing makes its output {value.name!r}", "run onnx.checker on it")
