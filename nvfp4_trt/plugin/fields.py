"""The attributes of the two plugin operators: what a node may say, and which tensors follow from it.

Nothing here needs TensorRT. Values arrive as the ONNX parser hands them over (strings as int8 arrays that end
in a zero, numbers as arrays of one) or as plain Python values; both become one checked record.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from nvfp4_trt.errors import PluginNodeError

if TYPE_CHECKING:
    from collections.abc import Mapping

NAMESPACE = "nvfp4"
"""TensorRT's namespace of both plugins (the ONNX attribute `plugin_namespace`)."""
VERSION = "1"
DOMAIN = "nvfp4.plugin"
"""The ONNX domain of both operators."""
QUANTIZE, GEMM = "Nvfp4Quantize", "Nvfp4Gemm"

SCALINGS = ("token", "tensor", "static", "single")
NORMS = ("layer_norm", "rms_norm")
ACTIVATIONS = ("gelu", "gelu_tanh", "silu", "silu_mul", "relu")
FUNCTIONS = ("none", *NORMS, *ACTIVATIONS)
OUTPUT_DTYPES = {1: "f32", 10: "f16", 16: "bf16"}
"""ONNX's number of an element type → this package's name of it."""

_REMAKE = "make the file again with nvfp4-trt lower --plugin"


@dataclass(frozen=True)
class QuantizeFields:
    """What an `Nvfp4Quantize` node says of itself."""

    scaling: str
    """Where the fp32 scale comes from: one of `SCALINGS`."""
    function: str = "none"
    """What is computed before quantizing: one of `FUNCTIONS`."""
    epsilon: float = 1e-5
    """Added to the variance, or the mean square, by a norm."""
    has_residual: int = 0
    has_weight: int = 0
    has_bias: int = 0
    emit_values: int = 0
    emit_sum: int = 0

    def __post_init__(self) -> None:
        """Refuse what no kernel computes, and round epsilon to the fp32 that a kernel gets.

        Raises:
            PluginNodeError: names the attribute.
        """
        object.__setattr__(self, "epsilon", float(np.float32(self.epsilon)))
        _check(QUANTIZE, "scaling", self.scaling, self.scaling in SCALINGS, SCALINGS)
        _check(QUANTIZE, "function", self.function, self.function in FUNCTIONS, FUNCTIONS)
        good = math.isfinite(self.epsilon) and self.epsilon >= 0
        _check(QUANTIZE, "epsilon", self.epsilon, good, ("a finite number from 0",))
        for name in ("has_residual", "has_weight", "has_bias", "emit_values", "emit_sum"):
            _check(QUANTIZE, name, getattr(self, name), getattr(self, name) in (0, 1), (0, 1))
        allowed = {
            "has_residual": NORMS,
            "has_weight": NORMS,
            "has_bias": ("layer_norm",),
            "emit_values": FUNCTIONS[1:],
            "emit_sum": NORMS if self.has_residual else (),
        }
        for name, functions in allowed.items():
            if getattr(self, name) and self.function not in functions:
                needs = " or ".join(functions) or "has_residual"
                raise PluginNodeError(
                    f"{QUANTIZE}: {name} = 1 with the function {self.function}", f"needs {needs}"
                )

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the node's inputs, in order."""
        present = {
            "x": True,
            "other": self.function == "silu_mul" or self.has_residual,
            "weight": self.has_weight,
            "bias": self.has_bias,
            "scale": self.scaling == "static",
        }
        return tuple(name for name, there in present.items() if there)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the node's outputs, in order."""
        optional = {"values": self.emit_values, "sum": self.emit_sum}
        return ("codes", "scales", "alpha", *(name for name, there in optional.items() if there))

    @property
    def kernel(self) -> str:
        """Name of the kernel that computes it, as the pack writes it."""
        if self.function == "none":
            return "quantize"
        return "norm_quantize" if self.function in NORMS else "activation_quantize"


@dataclass(frozen=True)
class GemmFields:
    """What an `Nvfp4Gemm` node says of itself."""

    dtype: int
    """ONNX's number of the output's element type: a key of `OUTPUT_DTYPES`."""
    has_bias: int = 0

    def __post_init__(self) -> None:
        """Refuse what no kernel computes.

        Raises:
            PluginNodeError: names the attribute.
        """
        _check(GEMM, "dtype", self.dtype, self.dtype in OUTPUT_DTYPES, tuple(OUTPUT_DTYPES))
        _check(GEMM, "has_bias", self.has_bias, self.has_bias in (0, 1), (0, 1))

    @property
    def output_dtype(self) -> str:
        """The output's element type: `f16`, `bf16` or `f32`."""
        return OUTPUT_DTYPES[self.dtype]

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the node's inputs, in order."""
        return ("a", "a_scales", "alpha", "b", "b_scales", "beta", *(("bias",) if self.has_bias else ()))

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the node's outputs, in order."""
        return ("out",)


Fields = QuantizeFields | GemmFields
FIELDS: dict[str, type[QuantizeFields | GemmFields]] = {QUANTIZE: QuantizeFields, GEMM: GemmFields}
"""Plugin → its record of attributes."""


def read_fields(plugin: str, given: Mapping[str, Any]) -> Fields:
    """Make the record of a node's attributes.

    Args:
        plugin: `QUANTIZE` or `GEMM`.
        given: attribute name → value: a Python value, bytes, or an array as TensorRT's `PluginField.data` is.

    Raises:
        PluginNodeError: an attribute is missing, unknown, not a single value, or out of its set.
    """
    kind: Any = FIELDS[plugin]
    types: dict[str, Any] = {each.name: each.type for each in fields(kind)}
    unknown = [name for name in given if name not in types]
    if unknown:
        raise PluginNodeError(f"{plugin} has no attribute {unknown[0]!r}", f"it has {', '.join(types)}")
    values = {name: _plain(plugin, name, types[name], value) for name, value in given.items()}
    required = "scaling" if plugin == QUANTIZE else "dtype"
    if required not in values:
        raise PluginNodeError(f"{plugin} needs the attribute {required!r}", _REMAKE)
    made: Fields = kind(**values)
    return made


def field_values(record: Fields) -> dict[str, str | int | float]:
    """Return every attribute by name: what is serialized into an engine, and read again by `read_fields`."""
    return asdict(record)


def _plain(plugin: str, name: str, kind: str, value: Any) -> Any:
    try:
        if kind == "str":
            text = value if isinstance(value, str) else bytes(np.asarray(_array(value))).decode("ascii")
            return text.rstrip("\0")
        number = np.asarray(value).reshape(-1)
        return float(number.item()) if kind == "float" else int(number.item())
    except (ValueError, TypeError, UnicodeDecodeError) as error:
        raise PluginNodeError(f"{plugin}: {name} is {value!r}, which is no {kind}", _REMAKE) from error


def _array(value: Any) -> Any:
    return np.frombuffer(value, np.uint8) if isinstance(value, bytes) else np.asarray(value).astype(np.uint8)


def _check(plugin: str, name: str, value: object, good: object, allowed: tuple[object, ...]) -> None:
    if not good:
        raise PluginNodeError(f"{plugin}: {name} is {value!r}, and may be {', '.join(map(str, allowed))}", _REMAKE)
