"""The rules, as data: when a layer cannot be FP4 or should not be, in words, and what would mend it.

The first rule that applies decides. What TensorRT does was seen of TensorRT-RTX 1.7.1 for sm_120, and
`tests/checking` asks the real builder again for each rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from nvfp4_trt.layers import FP8, FP8_WEIGHT_ONLY, MIN_K, NVFP4, WEIGHT_ONLY
from nvfp4_trt.portable import BLOCK

if TYPE_CHECKING:
    from collections.abc import Callable

    from nvfp4_trt.checking.facts import Facts

REFUSED = "refused"
"""Precision of a layer that TensorRT refuses, and the whole file with it."""
TINY = 2**16
"""Below this many weights FP4 saves less than 100 KB, and its two helper kernels stay."""
_FP8_CODES = "float8e4m3fn"
_FLOATS = frozenset({"float16", "bfloat16", "float32", "?"})
_KNOWN_DOMAINS = frozenset({"", "ai.onnx", "trt", "nvfp4"})


class Severity(StrEnum):
    """What a rule's verdict means."""

    REFUSED = "refused"
    """TensorRT refuses the file."""
    CANNOT = "cannot"
    """The layer is built, in another precision."""
    ADVICE = "advice"
    """The layer is FP4, and perhaps should not be."""


@dataclass(frozen=True)
class Rule:
    """One thing that is known."""

    code: str
    """Stable name."""
    severity: Severity
    applies: Callable[[Facts], bool]
    reason: str
    """Why; the names in braces are those of `Facts.words`."""
    remedy: str = ""
    """What would make it FP4 (of advice: what to do); empty where nothing is known to."""
    precision: str = ""
    """What the layer is instead; empty for the dtype of its float form."""


@dataclass(frozen=True)
class Verdict:
    """What becomes of one layer."""

    name: str
    kind: str
    shape: tuple[int | str, ...]
    precision: str
    """`nvfp4` where its GEMM will be FP4; `nvfp4-weight-only`, `fp8`, `fp8-weight-only`; the dtype that it is
    computed in; or `refused`."""
    code: str = ""
    """The rule that decided; empty where there is nothing to say."""
    severity: str = ""
    reason: str = ""
    remedy: str = ""
    node: str = ""
    """Name of the ONNX node; empty for a module."""


def judge(facts: Facts) -> Verdict:
    """Return what becomes of a layer, by the first rule that applies."""
    rule = next((rule for rule in RULES if rule.applies(facts)), None)
    if rule is None:
        return Verdict(facts.name, facts.kind, facts.shape, NVFP4, node=facts.node)
    words = facts.words()
    built = {Severity.ADVICE: NVFP4, Severity.REFUSED: REFUSED, Severity.CANNOT: facts.dtype}
    return Verdict(
        name=facts.name,
        kind=facts.kind,
        shape=facts.shape,
        precision=rule.precision or built[rule.severity],
        code=rule.code,
        severity=rule.severity,
        reason=rule.reason.format(**words),
        remedy=rule.remedy.format(**words),
        node=facts.node,
    )


def _quantized(facts: Facts) -> bool:
    """Whether a product has NVFP4 codes on both sides."""
    return len(facts.codes) == 2  # noqa: PLR2004


def _float(facts: Facts) -> bool:
    return facts.window is None and not facts.codes


def _operator(facts: Facts) -> bool:
    return any(codes.operator for codes in facts.codes)


def _other_codes(facts: Facts) -> bool:
    return any(side.codes is None and side.dtype not in _FLOATS for side in facts.operands)


def _window(facts: Facts, *, pointwise: bool = False, patches: bool = False) -> bool:
    window = facts.window
    if window is None:
        return False
    return window.pointwise if pointwise else window.patches if patches else True


_REFUSALS = (
    Rule(
        "foreign-operator",
        Severity.REFUSED,
        lambda f: f.domain not in _KNOWN_DOMAINS,
        "{kind} of the domain {domain!r} is no operator of TensorRT's parser",
        "export the model with standard ONNX operators",
    ),
    Rule(
        "unknown-quantizer",
        Severity.REFUSED,
        lambda f: any(side.quantizer for side in f.operands),
        "{quantizer} is no operator of TensorRT's parser",
        "keep FLOAT4E2M1 codes in the file, behind DequantizeLinear with block_size 16",
    ),
    Rule(
        "quantizer-rank",
        Severity.REFUSED,
        lambda f: any(c.operator and c.rank not in {None, 2, 3} for c in f.codes),
        "the quantizer's input has rank {rank}; TensorRT takes 2 and 3",
        "reshape it from rank {rank} to 3 in front of the quantizer, and back behind the product",
    ),
    Rule(
        "quantizer-block",
        Severity.REFUSED,
        lambda f: any(c.operator and c.block != BLOCK for c in f.codes),
        "the quantizer's block size is {block}; TensorRT takes 16",
        "quantize in blocks of 16",
    ),
    Rule(
        "quantizer-scale",
        Severity.REFUSED,
        lambda f: any(c.operator and c.run_time_scale for c in f.codes),
        "the quantizer's scale is computed at run time; TensorRT wants a constant",
        "divide in front of the quantizer, and multiply behind the product, as `nvfp4-trt lower` does",
    ),
    Rule(
        "one-block",
        Severity.REFUSED,
        lambda f: any(side.codes and not side.codes.portable and side.elements == BLOCK for side in f.operands),
        "an operand is one block of 16 numbers: TensorRT refuses a single block scale",
        "leave the layer as it is",
    ),
)

_OPERATORS = (
    Rule(
        "empty",
        Severity.CANNOT,
        lambda f: f.empty,
        "a dimension is 0: there is nothing to compute",
    ),
    Rule(
        "convolution-1x1",
        Severity.CANNOT,
        lambda f: _window(f, pointwise=True),
        "TensorRT has no FP4 convolution",
        "rewrite this 1x1 convolution as a MatMul over the channels (K = {k}{then}): `export --fix`",
    ),
    Rule(
        "patch-embedding",
        Severity.CANNOT,
        lambda f: _window(f, patches=True),
        "TensorRT has no FP4 convolution",
        "rewrite it as a MatMul over flattened patches (K = {k}{then}): `export --fix`",
    ),
    Rule(
        "convolution",
        Severity.CANNOT,
        _window,
        "TensorRT has no FP4 convolution",
    ),
    Rule(
        "hidden-products",
        Severity.CANNOT,
        lambda f: f.hidden,
        "{kind}: its products are inside one operator, where no quantizer reaches them",
        "write it as MatMuls",
    ),
    Rule(
        "fp8",
        Severity.CANNOT,
        lambda f: len(f.operands) == 2 and all(side.dtype == _FP8_CODES for side in f.operands),  # noqa: PLR2004
        "its operands are FP8 codes",
        "leave it out of `--fp8` when exporting",
        FP8,
    ),
    Rule(
        "fp8-weight-only",
        Severity.CANNOT,
        lambda f: bool(f.left and f.left.dtype in _FLOATS and f.right and f.right.dtype == _FP8_CODES),
        "its weight is FP8 in memory, and its activation is not quantized",
        "leave it out of `--fp8` when exporting",
        FP8_WEIGHT_ONLY,
    ),
    Rule(
        "other-quantization",
        Severity.CANNOT,
        lambda f: f.integer or _other_codes(f),
        "it is quantized already, in another way (its operands: {stored})",
        "start from the model before it was quantized",
    ),
    Rule(
        "constants",
        Severity.CANNOT,
        lambda f: bool(f.operands) and all(side.constant for side in f.operands),
        "both operands are constants: there is nothing to compute at run time",
    ),
)

_QUANTIZED = (
    Rule(
        "operator-between",
        Severity.CANNOT,
        lambda f: any(side.between for side in f.operands),
        "{between} stands between a dequantized operand and its product; "
        "TensorRT dequantizes the weight to higher precision at every run",
        "move it in front of the quantizer or behind the product",
    ),
    Rule(
        "weight-only",
        Severity.CANNOT,
        lambda f: bool(f.right and f.right.codes and f.right.constant and f.left and f.left.codes is None),
        "its activation is not quantized: the weight is FP4 in memory, and the GEMM is not",
        "quantize the activation too: export with a w4a4 recipe",
        WEIGHT_ONLY,
    ),
    Rule(
        "one-side",
        Severity.CANNOT,
        lambda f: len(f.codes) == 1,
        "only one of its operands has NVFP4 codes",
        "quantize both",
    ),
    Rule(
        "blocks-across-k",
        Severity.CANNOT,
        lambda f: any(not c.along_k for c in f.codes),
        "the blocks of an operand do not lie along the dimension that the product sums over",
        "quantize along K, and transpose behind the dequantizer",
    ),
    Rule(
        "single-level",
        Severity.CANNOT,
        lambda f: any(not c.two_level for c in f.codes),
        "the block scales are floats, not e4m3 with a per-tensor scale",
        "store e4m3 block scales, and dequantize them with a per-tensor scale (1 will do)",
    ),
    Rule(
        "run-time-scale",
        Severity.CANNOT,
        lambda f: any(c.run_time_scale and not c.portable for c in f.codes),
        "the per-tensor scale of its activation is computed at run time and used in a DequantizeLinear",
        "divide in front of the quantizer, and multiply behind the product, as `nvfp4-trt lower` does",
    ),
)

_FLOAT = (
    Rule(
        "two-activations",
        Severity.CANNOT,
        lambda f: _float(f) and bool(f.operands) and not any(side.constant for side in f.operands),
        "both operands are activations: export quantizes layers with a weight",
    ),
    Rule(
        "weight-left",
        Severity.CANNOT,
        lambda f: _float(f) and bool(f.left and f.left.constant),
        "its weight is the first operand: export quantizes layers that multiply by a weight from the right",
        "write it as a linear layer on the transposed activation",
    ),
    Rule(
        "weight-rank",
        Severity.CANNOT,
        lambda f: _float(f) and bool(f.operands) and not f.one_matrix,
        "its weight is a stack of matrices: export quantizes layers with one",
        "make a linear layer of each matrix",
    ),
)

_SHAPES = (
    Rule(
        "weight-dtype",
        Severity.CANNOT,
        lambda f: f.dtype not in _FLOATS,
        "its weight is {dtype}",
        "cast the model to float16, bfloat16 or float32",
    ),
    Rule(
        "k-not-blocks",
        Severity.CANNOT,
        lambda f: f.one_matrix and f.k is not None and f.k % BLOCK != 0,
        "K = {k} is not a multiple of 16",
        "pad K from {k} to {padded_k}: `export --fix`",
    ),
    Rule(
        "k-small",
        Severity.CANNOT,
        lambda f: f.one_matrix and f.k is not None and f.k < MIN_K,
        "K = {k} < 32: TensorRT builds such a GEMM in higher precision",
        "pad K from {k} to {padded_k}: `export --fix`",
    ),
    Rule(
        "n-one",
        Severity.CANNOT,
        lambda f: f.one_matrix and f.n == 1,
        "N = 1: TensorRT builds no GEMM for it",
        "pad N from 1 to 2",
    ),
    Rule(
        "told",
        Severity.CANNOT,
        lambda f: bool(f.told),
        "{told}",
    ),
    Rule(
        "not-quantized",
        Severity.CANNOT,
        lambda f: f.quantized_file and not _quantized(f),
        "nothing quantizes it in this file",
        "export it with NVFP4",
    ),
)

_ADVICE = (
    Rule(
        "tiny",
        Severity.ADVICE,
        lambda f: f.one_matrix and f.n is not None and f.k is not None and f.n * f.k < TINY,
        "tiny: {weights} weights; FP4 saves few bytes, and adds two kernels in front of the GEMM",
        "consider leaving it as it is: --exclude {name}",
    ),
    Rule(
        "odd-n",
        Severity.ADVICE,
        lambda f: f.one_matrix and f.n is not None and f.n % 2 == 1,
        "N = {n} is odd: TensorRT adds a step at run time",
        "pad N from {n} to {even_n}",
    ),
    Rule(
        "sensitive",
        Severity.ADVICE,
        lambda f: f.one_matrix and f.is_output,
        "perhaps sensitive: its result is an output of the model, and no later layer averages its error",
        "measure it with `nvfp4-trt sensitivity`",
    ),
)

RULES: tuple[Rule, ...] = (*_REFUSALS, *_OPERATORS, *_QUANTIZED, *_FLOAT, *_SHAPES, *_ADVICE)
"""All rules, in the order in which they are asked."""
