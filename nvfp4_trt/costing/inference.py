"""Shape inference of one model with numbers for its inputs' dimensions: node by node, without its weights.

ONNX's own inference of whole models gives up behind a Reshape whose target it cannot follow, and wants the
weights in the file. Here the shape arithmetic of the graph (Shape, Slice, Concat, ...) is
computed as the nodes pass by.
"""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from nvfp4_trt.passes.trt_functions import TRT_QUANTIZE
from nvfp4_trt.portable import BLOCK

if TYPE_CHECKING:
    from collections.abc import Mapping

    Shape = tuple[int, ...]

_KEPT_ELEMENTS = 64
"""Values of tensors up to this size are followed: shapes, axes and the like."""
_ARITHMETIC = frozenset(
    {
        *("Shape", "Size", "Constant", "ConstantOfShape", "Range", "Identity", "Cast"),
        *("Concat", "Slice", "Split", "Gather", "Squeeze", "Unsqueeze", "Reshape", "Transpose", "Expand", "Tile"),
        *("Abs", "Add", "Ceil", "Div", "Floor", "Max", "Min", "Mod", "Mul", "Neg", "Sub"),
        *("And", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "Or", "Where"),
        *("ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum"),
    }
)
"""Operators that shapes are computed with."""


_ALIKE = frozenset(
    {
        *(
            "Abs",
            "Add",
            "Ceil",
            "Clip",
            "Div",
            "Elu",
            "Erf",
            "Exp",
            "Floor",
            "Gelu",
            "HardSwish",
            "Identity",
            "Log",
        ),
        *("LeakyRelu", "Max", "Min", "Mul", "Neg", "Reciprocal", "Relu", "Sigmoid", "Softplus", "Sqrt", "Sub"),
        *("Swish", "Tanh"),
    }
)
"""Operators whose result has the dtype of the operands, and the shape that these broadcast to: most nodes of a
graph are such, and asking ONNX takes longer."""


class Inference:
    """Types, shapes and small values of a model's tensors, found in one walk over its nodes."""

    def __init__(self, model: ir.Model, inputs: Mapping[str, Shape]) -> None:
        """Walk the graph.

        Args:
            model: it stays as it is.
            inputs: input name → shape; others must have a fixed shape.

        Raises:
            ValueError: an input has no fixed shape and is not named, or its shape contradicts the model's.
        """
        self._types: dict[str, onnx.TypeProto] = {}
        self._values: dict[str, np.ndarray[Any, Any]] = {}
        self._extents: dict[str, int] = {}
        self._opsets = [onnx.helper.make_opsetid(name, version) for name, version in model.opset_imports.items()]
        self._versions = model.opset_imports
        self._ir_version = model.ir_version
        self._add_inputs(model, inputs)
        for value in model.graph.initializers.values():
            if value.const_value is not None:
                self._add_constant(value.name or "", value.const_value)
        for node in model.graph:
            self._infer(node)
            self._evaluate(node)

    def shapes(self) -> dict[str, Shape]:
        """Return the shape of every tensor that has one of numbers alone."""
        found = {name: self._shape(name) for name in self._types}
        return {name: shape for name, shape in found.items() if shape is not None}

    def dtypes(self) -> dict[str, ir.DataType]:
        """Return the dtype of every tensor that has a known one."""
        kinds = {name: kind.tensor_type.elem_type for name, kind in self._types.items()}
        return {name: ir.DataType(kind) for name, kind in kinds.items() if kind}

    def _add_inputs(self, model: ir.Model, inputs: Mapping[str, Shape]) -> None:
        for value in model.graph.inputs:
            if value.name in model.graph.initializers:
                continue
            declared = [] if value.shape is None else list(value.shape)
            shape = inputs.get(value.name or "") or tuple(dim for dim in declared if isinstance(dim, int))
            if value.shape is None or len(shape) != len(declared):
                raise ValueError(f"the input {value.name} needs a shape of {len(declared)} numbers")
            if any(isinstance(dim, int) and dim != extent for dim, extent in zip(declared, shape, strict=True)):
                raise ValueError(f"the input {value.name} is {value.shape}, not {list(shape)}")
            for dim, extent in zip(declared, shape, strict=True):
                if isinstance(dim, ir.SymbolicDim) and dim.value is not None:
                    self._extents[dim.value] = extent
            self._add(value.name or "", value.dtype, shape)

    def _add(self, name: str, dtype: ir.DataType | None, shape: Shape) -> None:
        self._types[name] = onnx.helper.make_tensor_type_proto(int(dtype or 0), shape)

    def _add_constant(self, name: str, tensor: ir.TensorProtocol) -> None:
        self._add(name, tensor.dtype, tuple(dim for dim in tensor.shape if isinstance(dim, int)))
        if tensor.size <= _KEPT_ELEMENTS and tensor.dtype.bitwidth >= 8:  # noqa: PLR2004 (bits of a byte)
            self._values[name] = tensor.numpy()

    def _infer(self, node: ir.Node) -> None:
        """Infer a node's outputs; they stay unknown where ONNX has no rule for it or an input is unknown."""
        if node.op_type == TRT_QUANTIZE:
            self._infer_quantizer(node)
        elif node.op_type in _ALIKE and node.domain in {"", "ai.onnx"} and self._infer_alike(node):
            return
        elif onnx.defs.has(node.op_type, node.domain):
            schema = onnx.defs.get_schema(node.op_type, self._versions.get(node.domain) or 1, node.domain)
            names = [value.name or "" for value in node.inputs if value is not None]
            known = {name: self._types.get(name, onnx.TypeProto()) for name in names}
            data = {
                name: onnx.numpy_helper.from_array(self._values[name]) for name in names if name in self._values
            }
            wire = ir.serde.serialize_node(node)
            with contextlib.suppress(onnx.shape_inference.InferenceError, onnx.checker.ValidationError):
                self._types |= onnx.shape_inference.infer_node_outputs(
                    schema, wire, known, data, None, self._opsets, self._ir_version
                )
        for value in node.outputs:
            self._fall_back(value)

    def _infer_alike(self, node: ir.Node) -> bool:
        """Infer an elementwise operator; return whether all of its operands are known."""
        names = [value.name or "" for value in node.inputs if value is not None]
        shapes = [shape for shape in map(self._shape, names) if shape is not None]
        kinds = {self._types[name].tensor_type.elem_type for name in names if name in self._types}
        if len(shapes) < len(names) or len(kinds) != 1 or len(node.outputs) != 1:
            return False
        try:
            shape = np.broadcast_shapes(*shapes)
        except ValueError:
            return False
        self._add(node.outputs[0].name or "", ir.DataType(kinds.pop()), shape)
        return True

    def _infer_quantizer(self, node: ir.Node) -> None:
        dims = self._shape(node.inputs[0].name or "") if node.inputs[0] is not None else None
        if dims is None:
            return
        codes, scales = node.outputs[0].name or "", node.outputs[1].name or ""
        self._add(codes, ir.DataType.FLOAT4E2M1, dims)
        self._add(scales, ir.DataType.FLOAT8E4M3FN, (*dims[:-1], -(-dims[-1] // BLOCK)))

    def _fall_back(self, value: ir.Value) -> None:
        """Take the shape that the model states, its named dimensions replaced, where inference found none."""
        name = value.name or ""
        if self._shape(name) is not None or value.shape is None:
            return
        dims = [dim if isinstance(dim, int) else self._extents.get(str(dim.value)) for dim in value.shape]
        fixed = tuple(dim for dim in dims if dim is not None)
        if len(fixed) == len(dims):
            self._add(name, value.dtype, fixed)

    def _evaluate(self, node: ir.Node) -> None:
        """Compute a node of shape arithmetic whose inputs' values are known."""
        if node.op_type not in _ARITHMETIC or node.domain not in {"", "ai.onnx"}:
            return
        names = [value.name or "" for value in node.inputs if value is not None]
        if node.op_type in {"Shape", "Size"}:
            shape = self._shape(names[0])
            # A view of one element: only its shape is asked for.
            feeds = {} if shape is None else {names[0]: np.broadcast_to(np.int8(0), shape)}
        else:
            feeds = {name: self._values[name] for name in names if name in self._values}
        outputs = [value.name or "" for value in node.outputs]
        sizes = [math.prod(shape) for shape in map(self._shape, outputs) if shape is not None]
        if len(feeds) != len(set(names)) or len(sizes) != len(outputs) or max(sizes) > _KEPT_ELEMENTS:
            return
        results = ReferenceEvaluator(ir.serde.serialize_node(node)).run(None, feeds)
        self._values |= {name: np.asarray(result) for name, result in zip(outputs, results, strict=True)}

    def _shape(self, name: str) -> Shape | None:
        kind = self._types.get(name)
        if kind is None or not kind.tensor_type.HasField("shape"):
            return None
        dims = kind.tensor_type.shape.dim
        return tuple(dim.dim_value for dim in dims) if all(dim.HasField("dim_value") for dim in dims) else None


def other_inputs(model: ir.Model, inputs: Mapping[str, Shape]) -> dict[str, Shape]:
    """Return shapes of the inputs that differ from the given ones in every dynamic dimension, and in no other.

    An extent becomes one less, so that no limit of the model is passed (a table of positions, say); 1 and 2 become
    3 and 4.
    """
    found = dict(inputs)
    for value in model.graph.inputs:
        given = inputs.get(value.name or "")
        if given is not None and value.shape is not None:
            dims = zip(value.shape, given, strict=True)
            found[value.name or ""] = tuple(n if isinstance(dim, int) else _other(n) for dim, n in dims)
    return found


def _other(extent: int) -> int:
    return extent - 1 if extent > 2 else extent + 2  # noqa: PLR2004
