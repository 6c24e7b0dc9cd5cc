"""The two sides of a product: the codes behind their dequantizers, which become part of its kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

_PASSED = frozenset({"Cast", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
_DEQUANTIZE = "DequantizeLinear"
_CODES = ("FLOAT4E2M1", "FLOAT8E4M3FN")


@dataclass(frozen=True)
class Factor:
    """One side of a product."""

    value: ir.Value
    """The codes; the operand itself where it has none."""
    scale: ir.Value | None = None
    """Block scales of FP4 codes, e4m3."""
    absorbed: tuple[ir.Node, ...] = ()
    """What dequantizes the codes and turns them."""
    axes_scale: ir.Value | None = None
    """Scales of an FP8 weight's channels."""

    @property
    def is_fp4(self) -> bool:
        """Whether it is e2m1 codes."""
        return self.value.dtype is not None and self.value.dtype.name == _CODES[0]

    @property
    def is_fp8(self) -> bool:
        """Whether it is e4m3 codes."""
        return self.value.dtype is not None and self.value.dtype.name == _CODES[1]


def factor_of(value: ir.Value) -> Factor:
    """Walk back from a product's operand to its codes."""
    passed: list[ir.Node] = []
    source: ir.Value | None = value
    while source is not None:
        node = source.producer()
        if node is None or (node.op_type not in _PASSED and node.op_type != _DEQUANTIZE):
            break
        passed.append(node)
        if node.op_type == _DEQUANTIZE:
            return _dequantized(node, passed)
        source = node.inputs[0]
    turned = source is not None and source.const_value is not None
    return Factor(source, absorbed=tuple(passed)) if turned and source is not None else Factor(value)


def _dequantized(node: ir.Node, passed: list[ir.Node]) -> Factor:
    codes, steps = node.inputs[0], node.inputs[1]
    if codes is None or codes.dtype is None or codes.dtype.name not in _CODES:
        return Factor(node.outputs[0], absorbed=tuple(passed[:-1]))
    if codes.dtype.name != _CODES[0]:
        return Factor(codes, absorbed=tuple(passed), axes_scale=steps)
    inner = None if steps is None else steps.producer()
    if inner is not None and inner.op_type == _DEQUANTIZE:
        return Factor(codes, inner.inputs[0], (*passed, inner))
    return Factor(codes, steps, tuple(passed))
