"""Which layers become FP4, and the reason for each that does not."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from nvfp4_trt.errors import NothingToQuantizeError
from nvfp4_trt.format import BLOCK
from nvfp4_trt.layers import FP8, FP8_WEIGHT_ONLY, MIN_K, NVFP4, WEIGHT_ONLY, Layer
from nvfp4_trt.patterns import matching
from nvfp4_trt.quantization import attention
from nvfp4_trt.recipe import ActivationScaling, Recipe

_CONVOLUTIONS = (nn.modules.conv._ConvNd,)  # noqa: SLF001 (their only common base)
_WITH_HIDDEN_GEMMS = (nn.RNNBase, nn.RNNCellBase, nn.Bilinear)
_OTHER_GEMMS = (*_CONVOLUTIONS, *_WITH_HIDDEN_GEMMS)
_QUANTIZABLE_DTYPES = (torch.float16, torch.bfloat16, torch.float32)


def is_conv1d(module: nn.Module) -> bool:
    """Return whether a module is Hugging Face's `Conv1D`: a linear layer that stores `[K, N]`."""
    kind = type(module)
    return kind.__name__ == "Conv1D" and kind.__module__.startswith("transformers.")


def is_linear(module: nn.Module) -> bool:
    """Return whether a module is a linear layer of any kind that can be replaced."""
    return isinstance(module, nn.Linear) or is_conv1d(module)


def weight_nk(module: nn.Module) -> Tensor:
    """Return a linear layer's weight as `[N, K]`, a view."""
    weight: Tensor = module.get_parameter("weight") if "weight" in module._parameters else module.weight  # type: ignore[assignment]  # noqa: SLF001
    return weight.t() if is_conv1d(module) else weight


def entering(args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> Tensor:
    """Return a linear layer's input, given either way."""
    return args[0] if args else next(iter(kwargs.values()))


def select(module: nn.Module, recipe: Recipe) -> tuple[Layer, ...]:
    """Decide for every layer that has a weight and a GEMM or a convolution, in module order.

    Raises:
        PatternMatchesNothingError: a pattern of the recipe matches no layer.
        NothingToQuantizeError: no layer would be FP4 or FP8.
    """
    found = listed(module)
    only = matching(found, recipe.only, option="--only") if recipe.only else set(found)
    excluded = matching(found, recipe.exclude, option="--exclude")
    fp8 = matching(found, recipe.fp8, option="--fp8")
    weight_only = recipe.activations.scaling is ActivationScaling.NONE
    layers = []
    for name, child in found.items():
        reason = refusal(child, shape=name not in fp8)
        if reason is None and name not in only:
            reason = "not selected by --only"
        if reason is None and name in excluded:
            reason = "excluded by pattern"
        precision = dtype_name(child) if reason is not None else _PRECISIONS[name in fp8, weight_only]
        layers.append(
            Layer(name, type(child).__name__, tuple(_first_parameter(child).shape), precision, reason or "")
        )
    if not any(layer.quantized for layer in layers):
        raise NothingToQuantizeError(
            f"none of the model's {len(layers)} layers would be FP4{_first_reasons(layers)}",
            "NVFP4 needs linear layers with K a multiple of 16, K >= 32 and N >= 2; check --only and --exclude",
        )
    return tuple(layers)


_PRECISIONS = {
    (False, False): NVFP4,
    (False, True): WEIGHT_ONLY,
    (True, False): FP8,
    (True, True): FP8_WEIGHT_ONLY,
}
"""By whether a layer is to be FP8, and whether activations are left as they are."""


def refusal(module: nn.Module, *, shape: bool = True) -> str | None:
    """Return why a layer cannot be FP4, or None where it can.

    Args:
        module: of the kinds that `select` lists.
        shape: whether its shape counts: an FP8 GEMM takes any.
    """
    if isinstance(module, _CONVOLUTIONS):
        return "convolution: TensorRT has no FP4 convolution"
    if isinstance(module, nn.MultiheadAttention):
        return attention.refusal(module)
    if isinstance(module, _WITH_HIDDEN_GEMMS):
        return f"{type(module).__name__}: its GEMMs are inside one operator"
    if isinstance(module, nn.Linear) and type(module).forward is not nn.Linear.forward:
        return f"{type(module).__name__} overrides Linear.forward"
    if "weight" not in module._parameters and not is_parametrized(module, "weight"):  # noqa: SLF001
        return "its weight is computed by a hook before each forward"
    weight = weight_nk(module)
    if weight.dtype not in _QUANTIZABLE_DTYPES:
        return f"its weight is {dtype_name(module)}"
    return _shape_refusal(*weight.shape) if shape else None


def _shape_refusal(n: int, k: int) -> str | None:
    if k % BLOCK:
        return f"K = {k} is not a multiple of {BLOCK}"
    if k < MIN_K:
        return f"K = {k} < {MIN_K}: TensorRT builds no FP4 GEMM"
    if n == 1:
        return "N = 1: TensorRT builds no GEMM"
    return None


def listed(root: nn.Module) -> dict[str, nn.Module]:
    """Return every layer that has a weight and a GEMM or a convolution, by its name, in module order."""
    found: dict[str, nn.Module] = {}
    inside_attention: set[nn.Module] = set()
    for name, module in root.named_modules():
        if isinstance(module, nn.MultiheadAttention):
            # One that could not be opened reads its projections' weights itself, past their modules.
            inside_attention.update(module.modules())
            found[name] = module
        elif module not in inside_attention and (is_linear(module) or isinstance(module, _OTHER_GEMMS)):
            found[name] = module
    return found


def _first_parameter(module: nn.Module) -> Tensor:
    return weight_nk(module) if is_linear(module) else next(module.parameters())


def dtype_name(module: nn.Module) -> str:
    """Return the dtype of a layer's weight, such as `float16`."""
    return str(_first_parameter(module).dtype).removeprefix("torch.")


def _first_reasons(layers: list[Layer]) -> str:
    shown = [f"{layer.name}: {layer.reason}" for layer in layers[:3]]
    return f" ({'; '.join(shown)})" if shown else ""
