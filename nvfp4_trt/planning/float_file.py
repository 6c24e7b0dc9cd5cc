"""A float ONNX file of anybody's, read for a plan: one opset, shapes inferred, and no data of its weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir
from onnx import external_data_helper, version_converter
from onnx_ir.passes.common import LiftConstantsToInitializersPass

from nvfp4_trt.checking.graphs import facts_of, has_codes
from nvfp4_trt.checking.outline import infer_shapes, read_outline
from nvfp4_trt.checking.rules import judge
from nvfp4_trt.errors import FileMissingError, NotOurOnnxError, OnnxInvalidError, ProfileError
from nvfp4_trt.portable import OPSET

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from nvfp4_trt.building.profiles import Range
    from nvfp4_trt.checking.facts import Facts
    from nvfp4_trt.checking.rules import Verdict

WEIGHTS = "weights"
"""Where weights without data are said to lie: a file of zeros, which nobody reads."""
_SMALL_BYTES = 1024
"""Constants up to this size are read: targets of Reshapes, axes and the like."""
_IR_VERSION = 11
_STANDARD = frozenset({"", "ai.onnx"})
_HINT = "give its inputs shapes: onnx.shape_inference, or the tool that made the file"


@dataclass(frozen=True)
class FloatFile:
    """A float ONNX file, and what `check` says of its layers."""

    model: ir.Model
    """Its large constants lie in `WEIGHTS`, beside wherever it is written."""
    layers: tuple[tuple[Facts, Verdict], ...]
    nodes: Mapping[str, ir.Node]
    """`Facts.node` of the layers of the main graph → their nodes."""
    weight_bytes: int
    """Of the largest constant."""


def is_float(path: Path) -> bool:
    """Tell a float ONNX file, which is planned as what export would make of it, from a portable one.

    Raises:
        FileMissingError, FileTruncatedError, NotAModelError, OnnxInvalidError: see `read_outline`.
        NotOurOnnxError: another tool's NVFP4 codes are in it.
    """
    outline = read_outline(path)
    if not has_codes(outline):
        return True
    if not any(prop.key.startswith("nvfp4.") for prop in outline.metadata_props) and not _has_ours(outline):
        raise NotOurOnnxError(
            f"{path} has NVFP4 codes that another tool put there; what an engine makes of those is not foreseen",
            "plan the float file that it was made from; `nvfp4-trt check` tells which of its GEMMs will be FP4",
        )
    return False


def read_float(path: Path) -> FloatFile:
    """Read a float ONNX file.

    Args:
        path: it has no NVFP4 codes, see `is_float`.

    Raises:
        FileMissingError, FileTruncatedError, NotAModelError, OnnxInvalidError: see `read_outline`; also where a
            small constant lies in a file that is not there, or an input has no shape.
    """
    outline = read_outline(path)
    _name_nodes(outline.graph)
    layers = tuple((facts, judge(facts)) for facts in facts_of(outline))
    made = {node.name: node.output[0] for node in outline.graph.node if node.output}
    sizes = [_settle(tensor, path) for tensor in outline.graph.initializer]
    model = ir.serde.deserialize_model(infer_shapes(_converted(outline)))
    LiftConstantsToInitializersPass(lift_all_constants=True)(model)
    model.ir_version = max(model.ir_version, _IR_VERSION)
    makers = {value.name: node for node in model.graph for value in node.outputs}
    return FloatFile(
        model=model,
        layers=layers,
        nodes={name: makers[output] for name, output in made.items() if output in makers},
        weight_bytes=max(sizes, default=0),
    )


def fix_inputs(model: ir.Model, ranges: Mapping[str, Range], path: Path) -> dict[str, list[int]]:
    """Name the dynamic dimensions that have no name, and return every input's shape at the preferred extents.

    Args:
        model: a dimension without a name becomes `INPUT.AXIS`.
        ranges: of every dynamic dimension: the file has no example that would tell one.
        path: for messages.

    Raises:
        ProfileError: a dimension has no range.
        OnnxInvalidError: an input has no shape.
    """
    shapes: dict[str, list[int]] = {}
    missing: dict[str, None] = {}
    for value in model.graph.inputs:
        if value.name is None or value.name in model.graph.initializers:
            continue
        if value.shape is None:
            raise OnnxInvalidError(f"{path}: its input {value.name!r} has no shape", _HINT)
        named = [
            dim if isinstance(dim, int) else str(dim.value or f"{value.name}.{axis}")
            for axis, dim in enumerate(value.shape)
        ]
        value.shape = ir.Shape(named)
        missing |= dict.fromkeys(dim for dim in named if isinstance(dim, str) and dim not in ranges)
        shapes[value.name] = [
            dim if isinstance(dim, int) else ranges[dim].opt if dim in ranges else 0 for dim in named
        ]
    if missing:
        names = ", ".join(missing)
        raise ProfileError(
            f"{path} has no example inputs that would tell how large {names} may be",
            "give " + " ".join(f"--dim {name}=1:8:32" for name in missing),
        )
    return shapes


def _has_ours(outline: onnx.ModelProto) -> bool:
    return any(node.domain == "nvfp4" for node in outline.graph.node)


def _name_nodes(graph: onnx.GraphProto) -> None:
    """Give every node a name of its own: by its first output where it has none, or another has the same."""
    seen: set[str] = set()
    for node in graph.node:
        if (not node.name or node.name in seen) and node.output:
            node.name = node.output[0] if not node.name else f"{node.name}/{node.output[0]}"
        seen.add(node.name)


def _settle(tensor: onnx.TensorProto, path: Path) -> int:
    """Read a small constant that lies beside the file, let a large one lie in `WEIGHTS`, and return its bytes."""
    dtype = ir.DataType(tensor.data_type)
    if dtype == ir.DataType.STRING:
        return 0
    size = int(-(-math.prod(tensor.dims) * dtype.bitwidth // 8))
    outside = tensor.data_location == onnx.TensorProto.EXTERNAL
    held = [field.name for field, _ in tensor.ListFields() if field.name.endswith("_data")]
    if outside and size <= _SMALL_BYTES:
        try:
            external_data_helper.load_external_data_for_tensor(tensor, str(path.parent))
        except (OSError, ValueError, onnx.checker.ValidationError) as error:
            raise FileMissingError(
                f"{path} keeps {tensor.name!r} in a file that cannot be read: {error}".splitlines()[0], "copy both"
            ) from error
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]
    elif (outside or not held or held == ["external_data"]) and size:
        del tensor.external_data[:]
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, entry in (("location", WEIGHTS), ("offset", "0"), ("length", str(size))):
            tensor.external_data.add(key=key, value=entry)
    return size


def _converted(outline: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model in the opset of portable files; where ONNX cannot convert it, it is said to be.

    Shapes behind an operator that has another form there are then unknown, and the plan says so.
    """
    if all(entry.version == OPSET for entry in outline.opset_import if entry.domain in _STANDARD):
        return outline
    # The converter copies data of weights: it gets a graph in which they are inputs.
    bare = onnx.ModelProto()
    bare.CopyFrom(outline)
    large = [t for t in bare.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    declared = {value.name for value in bare.graph.input}
    for tensor in large:
        if tensor.name not in declared:
            bare.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        bare.graph.initializer.remove(tensor)
    try:
        made: onnx.ModelProto = version_converter.convert_version(bare, OPSET)
    except (RuntimeError, ValueError, IndexError):
        for entry in outline.opset_import:
            entry.version = OPSET if entry.domain in _STANDARD else entry.version
        return outline
    added = {tensor.name for tensor in large} - declared
    inputs = [value for value in made.graph.input if value.name not in added]
    del made.graph.input[:]
    made.graph.input.extend(inputs)
    made.graph.initializer.extend(large)
    return made
