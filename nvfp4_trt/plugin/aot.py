"""The plugins in ahead-of-time form: kernels that TensorRT puts into the engine, which then needs no Python.

TensorRT's `tensorrt.plugin` takes functions whose signatures have one parameter for each tensor and attribute, so
that each plugin has a fixed number of tensors: a tensor that a node does not have is stood for by another one as
an input, and by a single element as an output. TensorRT passes a kernel its inputs, then numbers, then outputs.

Not run: the functions are registered with full TensorRT's own Python code, and called as it calls them, on
expressions without values; the kernels are compiled.
"""

from __future__ import annotations

from dataclasses import fields as fields_of
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Any

from nvfp4_trt.errors import PluginNodeError
from nvfp4_trt.plugin.aot_kernels import gemm_cubin, quantize_cubin
from nvfp4_trt.plugin.aot_plans import aot_tile, check_scaling, gemm_grid, launch_quantize
from nvfp4_trt.plugin.expressions import our_dtype, their_dtype
from nvfp4_trt.plugin.fields import FIELDS, GEMM, NAMESPACE, QUANTIZE, read_fields
from nvfp4_trt.plugin.shapes import gemm_shapes, quantize_shapes, rows_of, tensor_dtypes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nvfp4_trt.kernels.launch import Device
    from nvfp4_trt.plugin.fields import GemmFields, QuantizeFields

QUANTIZE_AOT, GEMM_AOT = "Nvfp4QuantizeAot", "Nvfp4GemmAot"
"""Operator types of the nodes that `nvfp4_trt.building.aot_nodes` makes."""
TENSORS = {
    QUANTIZE_AOT: (("x", "other", "weight", "bias", "scale"), ("codes", "scales", "alpha", "values", "sum")),
    GEMM_AOT: (("a", "b", "a_scales", "b_scales", "alpha", "beta", "bias"), ("out", "scratch_0", "scratch_1")),
}
"""Operator → its inputs and outputs, all of which every node has."""
_TYPES: dict[str, type] = {"str": str, "int": int, "float": float}


class Symbols:
    """Dimensions as `tensorrt.plugin` has them, mixed with plain numbers.

    Args:
        trtp: the module `tensorrt.plugin`.
    """

    def __init__(self, trtp: Any) -> None:
        self._trtp = trtp

    def constant(self, value: int) -> int:
        """Return the number."""
        return value

    def product(self, a: Any, b: Any) -> Any:
        """Return a · b; an expression is asked first, since a number knows no expressions."""
        return b * a if isinstance(a, int) else a * b

    def divided(self, a: Any, by: int) -> Any:
        """Return floor(a / by)."""
        return a // by

    def divided_up(self, a: Any, by: int) -> Any:
        """Return ceil(a / by)."""
        return -(-a // by) if isinstance(a, int) else self._trtp.cdiv(a, by)

    def least(self, a: Any, b: int) -> Any:
        """Return min(a, b)."""
        return min(a, b) if isinstance(a, int) else self._trtp.min(a, b)


class AotPlugins:
    """The functions that TensorRT calls while it builds.

    Args:
        trt: the module `tensorrt`.
        trtp: the module `tensorrt.plugin`.
        rows: the rows of the GEMM's tile table.
        sm: the GPU's architecture, for example 120.
        device: the GPU's size.
    """

    def __init__(self, trt: Any, trtp: Any, rows: Sequence[dict[str, Any]], sm: int, device: Device) -> None:
        self._trt, self._trtp, self._rows, self._sm, self._device = trt, trtp, rows, sm, device
        self._symbols = Symbols(trtp)

    def describe_quantize(self, *tensors: Any, **attributes: Any) -> tuple[Any, ...]:
        """Return the outputs' descriptions of a quantizer."""
        fields: QuantizeFields = read_fields(QUANTIZE, attributes)  # type: ignore[assignment]
        x = tensors[0]
        shapes = quantize_shapes(self._symbols, fields, list(x.shape_expr))
        made = dict(zip(fields.outputs, shapes, strict=True))
        dtypes = tensor_dtypes(fields, our_dtype(x.dtype))
        return tuple(
            self._tensor(made.get(name, [1]), dtypes.get(name, our_dtype(x.dtype)))
            for name in TENSORS[QUANTIZE_AOT][1]
        )

    def describe_gemm(self, *tensors: Any, **attributes: Any) -> tuple[Any, ...]:
        """Return the outputs' descriptions of a GEMM."""
        fields: GemmFields = read_fields(GEMM, attributes)  # type: ignore[assignment]
        (shape,) = gemm_shapes(list(tensors[0].shape_expr), list(tensors[1].shape_expr))
        return (self._tensor(shape, fields.output_dtype), self._tensor([1], "f32"), self._tensor([1], "f32"))

    def quantize(self, *given: Any) -> tuple[str, bytes, Any, Any]:
        """Return a quantizer's kernel and its launch.

        Args:
            given: descriptions of the inputs, attributes, descriptions of the outputs, the tactic.
        """
        fields: QuantizeFields = self._fields(QUANTIZE, given)
        check_scaling(fields, QUANTIZE)
        x, dtype = given[0], our_dtype(given[0].dtype)
        best, most = _extents(x)
        launch = launch_quantize(self._symbols, fields, list(x.shape_expr), best, most, dtype, self._device)
        cubin = quantize_cubin(fields.kernel, dtype, self._sm)
        return launch.entry, cubin, *self._launch(launch.grid, launch.block, launch.shared_bytes, launch.numbers)

    def gemm(self, *given: Any) -> tuple[str, bytes, Any, Any]:
        """Return a GEMM's kernel and its launch; see `quantize`."""
        fields: GemmFields = self._fields(GEMM, given)
        a, b, alpha, beta = given[0], given[1], given[4], given[5]
        (best, _), ((n, half_k), _) = _extents(a), _extents(b)
        m_best = rows_of(self._symbols, best)
        cubin, tile = gemm_cubin(aot_tile(self._rows, m_best, n, 2 * half_k), fields.output_dtype, self._sm)
        m = rows_of(self._symbols, list(a.shape_expr))
        grid = gemm_grid(self._symbols, m, n, tile.block_m, tile.block_n)
        # A scale for each row has the rows' dimensions and one more; a scalar has one.
        strides = (int(len(alpha.shape_expr) > 1), int(_extents(beta)[0] != (1,)))
        numbers = (m, n, 2 * half_k, *strides, fields.has_bias)
        return "gemm_kernel", cubin, *self._launch(grid, tile.warps * 32, tile.shared_bytes, numbers)

    def _fields(self, plugin: str, given: tuple[Any, ...]) -> Any:
        names = [each.name for each in fields_of(FIELDS[plugin])]
        first = len(TENSORS[f"{plugin}Aot"][0])
        return read_fields(plugin, dict(zip(names, given[first : first + len(names)], strict=True)))

    def _tensor(self, shape: Sequence[Any], dtype: str) -> Any:
        return self._trtp.from_shape_expr(tuple(shape), their_dtype(self._trt, dtype))

    def _launch(self, grid: Any, block: int, shared_bytes: int, numbers: Sequence[Any]) -> tuple[Any, Any]:
        params = self._trtp.KernelLaunchParams()
        params.grid_x, params.block_x, params.shared_mem = grid, block, shared_bytes
        extra = self._trtp.SymIntExprs(len(numbers))
        for i, number in enumerate(numbers):
            extra[i] = self._trtp.SymInt32(number)
        return params, extra


def register_aot(
    trt: Any, trtp: Any, rows: Sequence[dict[str, Any]], sm: int, device: Device, *, lazy: bool = False
) -> AotPlugins:
    """Put both plugins, in ahead-of-time form, into TensorRT's registry.

    Args:
        trt: the module `tensorrt`.
        trtp: the module `tensorrt.plugin`.
        rows: the rows of the GEMM's tile table.
        sm: the GPU's architecture, for example 120.
        device: the GPU's size.
        lazy: leave the registry alone until a plugin is asked for by name.
    """
    made = AotPlugins(trt, trtp, rows, sm, device)
    for plugin, name, describe, kernel in (
        (QUANTIZE, QUANTIZE_AOT, made.describe_quantize, made.quantize),
        (GEMM, GEMM_AOT, made.describe_gemm, made.gemm),
    ):
        inputs, outputs = TENSORS[name]
        attributes = {each.name: _TYPES[str(each.type)] for each in fields_of(FIELDS[plugin])}
        tensor = trtp.TensorDesc
        described = tuple.__class_getitem__((tensor,) * len(outputs))
        returned = tuple[str | bytes, str | bytes, trtp.KernelLaunchParams, trtp.SymIntExprs]
        identity = f"{NAMESPACE}::{name}"
        tensors = dict.fromkeys(inputs, tensor)
        trtp.register(identity, lazy)(_signed(describe, {**tensors, **attributes}, described))
        last = {"outputs": described, "tactic": int}
        trtp.aot_impl(identity)(_signed(kernel, {**tensors, **attributes, **last}, returned))
    return made


def _signed(function: Callable[..., Any], parameters: dict[str, Any], returned: Any) -> Callable[..., Any]:
    """Return a function with the signature that TensorRT reads tensors and attributes from."""

    def called(*given: Any, **named: Any) -> Any:
        return function(*given, **named)

    kind = Parameter.POSITIONAL_OR_KEYWORD
    listed = [Parameter(name, kind, annotation=annotation) for name, annotation in parameters.items()]
    called.__signature__ = Signature(listed, return_annotation=returned)  # type: ignore[attr-defined]
    return called


def _extents(tensor: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return a tensor's shape at the profile's optimum, and at its largest; its last dimension does not change.

    Raises:
        PluginNodeError: it does.
    """
    shape = tensor.shape
    if not shape.is_dynamic:
        return tuple(shape), tuple(shape)
    if tuple(shape)[-1] < 0:
        raise PluginNodeError(
            f"a plugin's tensor has the shape {list(shape)}, and K is not known", "export with K fixed"
        )
    return tuple(shape.opt), tuple(shape.max)
