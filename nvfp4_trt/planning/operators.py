"""What TensorRT's compiler does with each operator: the data that kernels are predicted by.

Learned from layer records of TensorRT-RTX 1.7 for sm_120; `benchmarks/plan.py` holds them against real engines.
"""

from __future__ import annotations

from enum import StrEnum

from nvfp4_trt.portable import DOMAIN


class Role(StrEnum):
    """How an operator takes part in kernels."""

    VIEW = "view"
    """Costs nothing: it changes how a tensor is read."""
    POINTWISE = "pointwise"
    """Fuses with whatever it touches."""
    MOVE = "move"
    """Rearranges elements; fuses as pointwise arithmetic does."""
    REDUCTION = "reduction"
    """Fuses, and has rows that it reduces: a kernel has rows of one kind."""
    BLOCKS = "blocks"
    """Makes FP4 codes, or a block's maximum, of standard operators; fuses, and has blocks for its rows."""
    SOURCE = "source"
    """Makes a tensor out of extents."""
    EXTENT = "extent"
    """Reads an extent; computed on the host."""
    PRODUCT = "product"
    """A GEMM, a kernel of its own."""
    CONVOLUTION = "convolution"
    ATTENTION = "attention"
    QUANTIZER = "quantizer"
    """TensorRT's own FP4 quantizer, a kernel of its own."""
    OPAQUE = "opaque"
    """Nothing is known of it: counted as one kernel."""


_VIEWS = "Cast Dropout Flatten Identity Reshape Squeeze Unsqueeze"
_POINTWISE = """
    Abs Acos Add And Asin Atan BatchNormalization BitwiseAnd BitwiseOr Ceil Celu Clip Cos DequantizeLinear Div Elu
    Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid HardSwish IsInf IsNaN LeakyRelu Less LessOrEqual
    Log Max Min Mish Mod Mul Neg Not Or PRelu Pow QuantizeLinear Reciprocal Relu Round Selu Sigmoid Sign Sin
    Softplus Softsign Sqrt Sub Sum Swish Tan Tanh Where Xor
"""
_MOVES = """
    Concat DepthToSpace Expand Gather GatherElements GatherND Pad Slice SpaceToDepth Split Tile Transpose Trilu
"""
_REDUCTIONS = """
    ArgMax ArgMin CumSum GlobalAveragePool GroupNormalization InstanceNormalization LayerNormalization LogSoftmax
    RMSNormalization ReduceL1 ReduceL2 ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
    ReduceSumSquare Softmax
"""
ROLES: dict[str, Role] = {
    **dict.fromkeys(_VIEWS.split(), Role.VIEW),
    **dict.fromkeys(_POINTWISE.split(), Role.POINTWISE),
    **dict.fromkeys(_MOVES.split(), Role.MOVE),
    **dict.fromkeys(_REDUCTIONS.split(), Role.REDUCTION),
    **dict.fromkeys(("ConstantOfShape", "EyeLike", "Range"), Role.SOURCE),
    **dict.fromkeys(("Shape", "Size"), Role.EXTENT),
    **dict.fromkeys(("Gemm", "MatMul"), Role.PRODUCT),
    **dict.fromkeys(("Conv", "ConvTranspose"), Role.CONVOLUTION),
    "Attention": Role.ATTENTION,
    "TRT_FP4DynamicQuantize": Role.QUANTIZER,
}
FUSED = frozenset({Role.VIEW, Role.POINTWISE, Role.MOVE, Role.REDUCTION, Role.BLOCKS, Role.SOURCE})
"""Roles of what fuses into kernels that TensorRT generates."""
_STANDARD = frozenset({"", "ai.onnx", "trt"})


def role_of(domain: str, op_type: str) -> Role:
    """Return the role of an operator; `OPAQUE` where it is none that is known."""
    if domain not in _STANDARD:
        return Role.REDUCTION if domain == DOMAIN and op_type.endswith("Scale") else Role.OPAQUE
    return ROLES.get(op_type, Role.OPAQUE)
