"""Quantize a module: open attention, select, calibrate where a scale is static, and swap layers."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from nvfp4_trt import format as fmt
from nvfp4_trt.errors import InputsMissingError
from nvfp4_trt.layers import NVFP4, Layer
from nvfp4_trt.loading.stored import releasing
from nvfp4_trt.quantization import attention
from nvfp4_trt.quantization.fp8_modules import Fp8Linear, Fp8Quantizer, Fp8Weight, fp8_weight
from nvfp4_trt.quantization.layerwise import Layerwise
from nvfp4_trt.quantization.methods import scale_choice
from nvfp4_trt.quantization.methods.gptq import gptq
from nvfp4_trt.quantization.modules import ActivationQuantizer, PackedWeight, QuantEmbedding, QuantLinear
from nvfp4_trt.quantization.packing import check_finite, every_core, pack
from nvfp4_trt.quantization.select import select, weight_nk
from nvfp4_trt.quantization.transforms import BUFFERS, transform
from nvfp4_trt.recipe import ActivationScaling, Recipe, WeightMethod

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from concurrent.futures import ThreadPoolExecutor

    from nvfp4_trt.loading import Batch, Spill
    from nvfp4_trt.quantization.methods.moments import Moments

    Calibrator = Callable[[nn.Module, tuple[str, ...]], Mapping[str, float]]


# torch has no public way to move hooks; the last three say how those of the first two want to be called.
_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks_with_kwargs",
)


@dataclass(frozen=True)
class QuantizedModel:
    """A module whose selected layers are NVFP4 or FP8, and the table that says which."""

    module: nn.Module
    recipe: Recipe
    layers: tuple[Layer, ...]

    def __call__(self, *args: Tensor, **kwargs: Tensor) -> object:
        """Run the module."""
        return self.module(*args, **kwargs)


def quantize_module(
    module: nn.Module,
    recipe: Recipe,
    *,
    calibrate: Calibrator | None = None,
    inputs: Iterable[Batch] | None = None,
    inplace: bool = False,
    spill: Spill | None = None,
) -> QuantizedModel:
    """Replace the layers that `recipe` selects by their NVFP4 or FP8 forms.

    Args:
        module: any module; its linear layers, `Conv1D`s and attention projections are candidates.
        recipe: what to select and how to scale.
        calibrate: called with the module (its attention opened, nothing quantized yet) and the names of the
            layers that need a static scale; returns amax(|input|) of each. Needed for `w4a4-static`.
        inputs: calibration batches by the names of the forward's parameters, for the recipe's transforms, and for
            weight methods that look at inputs.
        inplace: change `module` itself; otherwise a deep copy.
        spill: where packed weights are kept, which must outlive the result; in memory by default.

    Raises:
        NonfiniteWeightError: a selected weight holds NaN or infinity.
        InputsMissingError: a weight method looks at inputs, and there are none, or they do not reach a layer.
        NonfiniteCalibrationError, InputsMismatchError, ModelRunError: see `Layerwise`.
        FileTruncatedError: the file of a mapped weight has become shorter.
        PatternMatchesNothingError, NothingToQuantizeError: see `select`.
        InputsMissingError, InputsMismatchError, ModelRunError, NonfiniteCalibrationError: see `transform`.
    """

    def transforming(root: nn.Module, names: tuple[str, ...]) -> Mapping[str, str]:
        return transform(root, names, recipe, inputs)

    root, layers, amaxes = plan(module if inplace else copy.deepcopy(module), recipe, calibrate, transforming)
    methods = recipe.weights.methods_of([layer.name for layer in layers])
    with every_core() as pool:
        swap = _Swap(recipe, methods, amaxes, pool, spill)
        _layer_by_layer(
            root, [layer.name for layer in layers if layer.quantized and not layer.is_fp8], swap, inputs
        )
        for layer in layers:
            if layer.quantized:
                make = swap.fp8_linear if layer.is_fp8 else swap.linear
                old = root.get_submodule(layer.name)
                root = put(root, old, make(layer.name, old))
    embeddings = []
    for name, child in list(root.named_modules()):
        tied = swap.tied_embedding(child)
        if tied is not None:
            embeddings.append(embedding_row(name, child))
            root = put(root, child, tied)
    return QuantizedModel(root, recipe, (*layers, *embeddings))


class Plan(NamedTuple):
    """What will become of a module's layers."""

    root: nn.Module
    """The module, its attention opened."""
    layers: tuple[Layer, ...]
    amaxes: Mapping[str, float]
    """amax(|input|) of each layer that will be NVFP4 or FP8; empty unless the recipe is static."""


def plan(
    root: nn.Module,
    recipe: Recipe,
    calibrate: Calibrator | None,
    transforming: Callable[[nn.Module, tuple[str, ...]], Mapping[str, str]] | None = None,
) -> Plan:
    """Open a module's attention, in place, select its layers, and calibrate where a scale is static.

    Args:
        root: as for `quantize_module`, and so are others.
        recipe: see there.
        calibrate: see there.
        transforming: called with the module and the layers to quantize before they are calibrated; it changes
            them in place, and returns by name why it left some as they are.

    Raises: see `quantize_module`.
    """
    root = open_attention(root)
    layers = select(root, recipe)
    if transforming is not None:
        fp4 = tuple(layer.name for layer in layers if layer.quantized and not layer.is_fp8)
        left = transforming(root, fp4)
        layers = tuple(replace(layer, reason=left.get(layer.name, layer.reason)) for layer in layers)
    amaxes: Mapping[str, float] = {}
    if recipe.activations.scaling is ActivationScaling.STATIC:
        if calibrate is None:
            raise ValueError("a static recipe needs a calibrator")
        with releasing(root):
            amaxes = calibrate(root, tuple(layer.name for layer in layers if layer.quantized))
    return Plan(root, layers, amaxes)


def reads_rows(module: nn.Module) -> bool:
    """Return whether a module looks rows of its weight up and does nothing else, such as scaling them."""
    is_plain = isinstance(module, nn.Embedding) and module.max_norm is None
    return is_plain and type(module).forward is nn.Embedding.forward


def embedding_row(name: str, module: nn.Module) -> Layer:
    """Return the row of an embedding that is tied with a packed weight."""
    return Layer(name, "Embedding", tuple(module.get_parameter("weight").shape), NVFP4)


def _layer_by_layer(root: nn.Module, chosen: Sequence[str], swap: _Swap, inputs: Iterable[Batch] | None) -> None:
    """Pack weights in the order in which their layers run, where a method looks at what enters its layer."""
    needed = [name for name in chosen if swap.methods[name].needs_inputs]
    if not needed:
        return
    batches = tuple(inputs or ())
    if not batches:
        layer = needed[0]
        raise InputsMissingError(
            f"the weight method {swap.methods[layer]} of the layer {layer} looks at inputs, and none were given",
            "give --inputs with data like that of use, or choose mse, which looks at weights alone",
        )
    quantizers = {name: swap.quantizer(name, weight_nk(root.get_submodule(name))) for name in chosen}
    with Layerwise(root, quantizers, needed, batches) as layerwise:
        for stage in layerwise.stages():
            for name in stage.layers:
                layerwise.replace(name, swap.linear(name, root.get_submodule(name), stage.moments))


class _Swap:
    """Makes the replacements; a weight that several layers share is packed once and shared again."""

    def __init__(
        self,
        recipe: Recipe,
        methods: Mapping[str, WeightMethod],
        amaxes: Mapping[str, float],
        pool: ThreadPoolExecutor,
        spill: Spill | None,
    ) -> None:
        self.recipe = recipe
        self.methods = methods
        self.amaxes = amaxes
        self.pool = pool
        self.spill = spill
        # The weight itself is kept beside each: while it lives, no other can take its address.
        self.packed: dict[tuple[object, ...], tuple[PackedWeight, Tensor]] = {}
        self.fp8: dict[tuple[object, ...], tuple[Fp8Weight, Tensor]] = {}

    def linear(self, name: str, module: nn.Module, moments: Moments | None = None) -> QuantLinear:
        weight = weight_nk(module)
        packed = self._pack(name, weight, moments)
        made = QuantLinear(packed, module.bias, self.quantizer(name, weight), weight.dtype)  # type: ignore[arg-type]
        carry_over(module, made)
        return made

    def fp8_linear(self, name: str, module: nn.Module) -> Fp8Linear:
        weight = weight_nk(module)
        made = self._fp8(name, weight)
        scaling, scale = self.recipe.activations.scaling, None
        if scaling is ActivationScaling.STATIC:
            amax = torch.tensor(self.amaxes[name], dtype=torch.float32)
            scale = fmt.fp8_scale_from_amax(amax).to(weight.device)
        quantizer = Fp8Quantizer(scaling, scale)
        layer = Fp8Linear(made, module.bias, quantizer, weight.dtype)  # type: ignore[arg-type]
        carry_over(module, layer)
        return layer

    def tied_embedding(self, module: nn.Module) -> QuantEmbedding | None:
        if not reads_rows(module):
            return None
        weight: Tensor = module.weight  # type: ignore[assignment]
        held = self.packed.get(identity(weight))
        if held is None:
            return None
        made = QuantEmbedding(held[0], weight.dtype)
        carry_over(module, made)
        return made

    def _pack(self, name: str, weight: Tensor, moments: Moments | None) -> PackedWeight:
        key = identity(weight)
        if key not in self.packed:
            rule, choice = fmt.scale_rule(self.recipe.weights.rule), scale_choice(self.methods[name])
            if moments is not None and self.methods[name].needs_inputs:
                check_finite(weight, f"{name}.weight")
                packed = gptq(weight.detach(), moments, rule, choice, self.pool)
            else:
                packed = pack(weight, rule, f"{name}.weight", self.pool, choice)
            if self.spill is not None:
                packed = PackedWeight(*self.spill.keep(packed))
            self.packed[key] = (packed, weight)
        return self.packed[key][0]

    def _fp8(self, name: str, weight: Tensor) -> Fp8Weight:
        key = identity(weight)
        if key not in self.fp8:
            check_finite(weight, f"{name}.weight")
            made = fp8_weight(weight)
            self.fp8[key] = (made if self.spill is None else Fp8Weight(*self.spill.keep(made)), weight)
        return self.fp8[key][0]

    def quantizer(self, name: str, weight: Tensor) -> ActivationQuantizer:
        scaling = self.recipe.activations.scaling
        return ActivationQuantizer(scaling, input_scale(scaling, self.amaxes.get(name), weight.device))


def input_scale(scaling: ActivationScaling, amax: float | None, device: torch.device) -> Tensor | None:
    """Return the scale, fp32 `[]`, that a layer's calibrated amax(|input|) gives; None unless it is static."""
    if scaling is not ActivationScaling.STATIC:
        return None
    return fmt.scale_from_amax(torch.tensor(amax, dtype=torch.float32))[0].to(device)


def open_attention(root: nn.Module) -> nn.Module:
    """Put opened forms, with linear layers of their own, in the places of fused attention; return the root."""
    for child in list(root.modules()):
        if isinstance(child, nn.MultiheadAttention) and attention.refusal(child) is None:
            opened = attention.OpenMultiheadAttention(child)
            carry_over(child, opened)
            root = put(root, child, opened)
        elif isinstance(child, nn.TransformerEncoder):
            child.use_nested_tensor = False  # padded batches would reach its attention as nested tensors
    return root


def put(root: nn.Module, old: nn.Module, new: nn.Module) -> nn.Module:
    """Put `new` wherever `old` stands below `root`, and return the root."""
    if root is old:
        return new
    for parent in list(root.modules()):
        for name, child in list(parent._modules.items()):  # noqa: SLF001 (named_children skips repeats)
            if child is old:
                parent._modules[name] = new  # noqa: SLF001
    return root


def carry_over(old: nn.Module, new: nn.Module) -> None:
    """Give a replacement the mode and the hooks of what it replaces, and the buffers of its transforms."""
    new.train(old.training)
    for hooks in _HOOKS:
        setattr(new, hooks, getattr(old, hooks))
    for name in BUFFERS:
        if name in old._buffers:  # noqa: SLF001 (get_buffer raises)
            new.register_buffer(name, old.get_buffer(name))


def identity(weight: Tensor) -> tuple[object, ...]:
    """Return what two weights have in common where they are the same one, for as long as it lives."""
    return weight.data_ptr(), weight.shape, weight.stride(), weight.dtype
