"""Three copies of a portable graph: with its layers' doors open, its layers alone, and what is between them.

The copies share the weights of the graph that they are made from; it stays as it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from nvfp4_trt.tapping.calls import input_tap, output_tap

if TYPE_CHECKING:
    from collections.abc import Iterable, MutableSequence, Sequence

    from nvfp4_trt.tapping.points import Point


class Copy(NamedTuple):
    """A model with taps."""

    model: ir.Model
    aliases: dict[str, str]
    """The name of each layer's input tap → that of the first layer with the same input, which stands for it."""


def tapped(model: ir.Model, points: Sequence[Point]) -> Copy:
    """Return the whole model, what enters and leaves each layer among its outputs."""
    copy, values = _clone(model)
    first = _first(points)
    for tap, name in _taps(points, first):
        _expose(copy.graph, values[name], tap)
    return Copy(copy, _aliases(points, first))


def alone(model: ir.Model, points: Sequence[Point]) -> Copy:
    """Return the layers and nothing else: what enters each is an input, what leaves it an output.

    Layers that read one tensor have one input, as they share one quantizer.
    """
    copy, values = _clone(model)
    first = _first(points)
    given = {name: _input_like(values[name], tap) for name, tap in first.items()}
    outputs = [(output_tap(point.call), values[point.y]) for point in points]
    for name, value in given.items():
        _replace_reads(values[name], value)
    _set(copy.graph.inputs, given.values())
    _set(copy.graph.outputs, ())
    for tap, value in outputs:
        _expose(copy.graph, value, tap)
    return Copy(_pruned(copy), _aliases(points, first))


def between(model: ir.Model, points: Sequence[Point]) -> Copy:
    """Return what is between the layers: what leaves each is an input, what enters it an output.

    The model's own outputs are there too, but for those that a layer makes itself.
    """
    copy, values = _clone(model)
    first = _first(points)
    made = {point.y: _input_like(values[point.y], output_tap(point.call)) for point in points}
    outputs = [value for value in copy.graph.outputs if value.name not in made]
    for name, value in made.items():
        _replace_reads(values[name], value)
    _set(copy.graph.outputs, outputs)
    for name, tap in first.items():
        _expose(copy.graph, made.get(name, values[name]), tap)
    copy.graph.inputs.extend(made.values())
    return Copy(_pruned(copy), _aliases(points, first))


def _clone(model: ir.Model) -> tuple[ir.Model, dict[str, ir.Value]]:
    copy = model.clone()
    values = [*copy.graph.inputs, *copy.graph.initializers.values()]
    values += [value for node in copy.graph for value in node.outputs]
    return copy, {str(value.name): value for value in values}


def _first(points: Sequence[Point]) -> dict[str, str]:
    """Return each value that enters a layer, with the tap of the first layer that it enters."""
    found: dict[str, str] = {}
    for point in points:
        found.setdefault(point.x, input_tap(point.call))
    return found


def _aliases(points: Sequence[Point], first: dict[str, str]) -> dict[str, str]:
    return {input_tap(point.call): first[point.x] for point in points}


def _taps(points: Sequence[Point], first: dict[str, str]) -> Iterable[tuple[str, str]]:
    yield from ((tap, name) for name, tap in first.items())
    yield from ((output_tap(point.call), point.y) for point in points)


def _expose(graph: ir.Graph, value: ir.Value, tap: str) -> None:
    node = ir.node("Identity", [value], name=tap)
    made = node.outputs[0]
    made.name, made.type, made.shape = tap, value.type, value.shape
    graph.append(node)
    graph.outputs.append(made)


def _input_like(value: ir.Value, name: str) -> ir.Value:
    return ir.Value(name=name, type=value.type, shape=value.shape)


def _replace_reads(old: ir.Value, new: ir.Value) -> None:
    for node, index in list(old.uses()):
        node.replace_input_with(index, new)


def _set(values: MutableSequence[ir.Value], to: Iterable[ir.Value]) -> None:
    values[:] = list(to)


def _pruned(model: ir.Model) -> ir.Model:
    RemoveUnusedNodesPass()(model)
    return model
