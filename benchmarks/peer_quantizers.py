"""The peers' columns of `accuracy.py`: their own packages, as far as they run on a CPU.

torchao's and ModelOpt's linear layers refuse to multiply on a CPU, so their own tensors quantize and dequantize in
front of torch's; compressed-tensors' layers run themselves.
"""

from __future__ import annotations

import copy
import functools
from typing import TYPE_CHECKING

import torch
from quantizers import Made, Quantizer, linears_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tasks.task import Batch
    from torch import Tensor, nn

BITS = 4.5
"""A code of 4 bits, and a scale of 8 bits for 16 codes; scales per tensor come to less than 0.01."""


def torchao(name: str, *, two_level: bool) -> Quantizer:
    """Return torchao's NVFP4 with a per-tensor scale at run time, or with block scales alone."""

    def through() -> Callable[[Tensor], Tensor]:
        from torchao.prototype.mx_formats.nvfp4_tensor import NVFP4Tensor, per_tensor_amax_to_scale

        def quantized(x: Tensor) -> Tensor:
            rows = x.reshape(-1, x.shape[-1])
            scale = per_tensor_amax_to_scale(rows.abs().amax()) if two_level else None
            values: Tensor = NVFP4Tensor.to_nvfp4(rows, per_tensor_scale=scale).dequantize(torch.float32)
            return values.view(x.shape)

        return quantized

    mode = "per tensor" if two_level else "single-level"
    return Quantizer(name, functools.partial(_weights_then_activations, through, mode))


def modelopt() -> Quantizer:
    """Return ModelOpt's max calibration of weights; its activations are quantized on a GPU only."""

    def through() -> Callable[[Tensor], Tensor]:
        from modelopt.torch.quantization.qtensor.nvfp4_tensor import NVFP4QTensor

        def quantized(x: Tensor) -> Tensor:
            held, block_scale, scale = NVFP4QTensor.quantize(x, 16)
            values: Tensor = held.dequantize(
                torch.float32, scale=block_scale, double_scale=scale, block_sizes={-1: 16}
            )
            return values

        return quantized

    return Quantizer("ModelOpt", functools.partial(_weights_then_activations, through, None))


def compressed_tensors() -> Quantizer:
    """Return compressed-tensors' `NVFP4` and `NVFP4A16` presets, with scales as its own helpers compute them."""
    return Quantizer("compressed-tensors", _compressed_tensors)


@torch.no_grad()
def _weights_then_activations(
    through: Callable[[], Callable[[Tensor], Tensor]],
    mode: str | None,
    module: nn.Module,
    _calibration: Sequence[Batch],
    names: Sequence[str],
) -> Iterator[Made]:
    quantized = through()
    made, linears = linears_of(module, names)
    for weight in {id(linear.weight): linear.weight for linear in linears}.values():
        weight.copy_(quantized(weight))
    yield Made("weight-only", made, BITS)
    if mode is not None:
        for linear in linears:
            linear.register_forward_pre_hook(lambda _, args: (quantized(args[0]), *args[1:]))
        yield Made(mode, made, BITS)


@torch.no_grad()
def _compressed_tensors(module: nn.Module, calibration: Sequence[Batch], names: Sequence[str]) -> Iterator[Made]:
    from compressed_tensors.quantization import (
        QuantizationConfig,
        QuantizationStatus,
        apply_quantization_config,
        preset_name_to_scheme,
    )
    from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam

    from nvfp4_trt.calibration import input_amaxes
    from nvfp4_trt.recipe import RECIPES

    amaxes = input_amaxes(module, names, calibration, RECIPES["w4a4-static"])
    for mode, preset in (("weight-only", "NVFP4A16"), ("static", "NVFP4")):
        made, linears = linears_of(module, names)
        scheme = preset_name_to_scheme(preset, list(names))
        config = QuantizationConfig(config_groups={"all": scheme}, quantization_status=QuantizationStatus.FROZEN)
        apply_quantization_config(made, config)
        for name, linear in zip(names, linears, strict=True):
            scale = generate_gparam(linear.weight.min(), linear.weight.max())
            blocks = linear.weight.unflatten(-1, (-1, 16))
            block_scales, _ = calculate_qparams(
                blocks.amin(-1), blocks.amax(-1), linear.quantization_scheme.weights, global_scale=scale
            )
            linear.weight_global_scale.copy_(scale)
            linear.weight_scale.copy_(block_scales)
            if mode == "static":
                largest = torch.tensor(amaxes[name])
                linear.input_global_scale.copy_(generate_gparam(-largest, largest))
        yield Made(mode, made, BITS)


def auto_round() -> Quantizer:
    """Return auto-round's `NVFP4` scheme with its rounding in 200 steps a block, and it for weights alone.

    It takes text models of transformers, in bfloat16, and leaves their output layers in 16 bits.
    """
    return Quantizer("auto-round", _auto_round)


def _auto_round(module: nn.Module, calibration: Sequence[Batch], _names: Sequence[str]) -> Iterator[Made]:
    from transformers import PreTrainedModel

    if "input_ids" not in calibration[0] or not any(isinstance(m, PreTrainedModel) for m in module.modules()):
        return
    from auto_round import AutoRound

    weights_only = {"bits": 4, "group_size": 16, "data_type": "nv_fp", "act_bits": 16}
    for mode, scheme in (("weight-only", weights_only), ("static", "NVFP4")):
        made = copy.deepcopy(module)
        model = next(m for m in made.modules() if isinstance(m, PreTrainedModel))
        data = _of_eight(calibration)
        with torch.enable_grad():
            AutoRound(
                model,
                tokenizer=_Tokenizer(),
                scheme=scheme,
                dataset=data,
                nsamples=sum(len(batch["input_ids"]) for batch in data),
                seqlen=1,
                batch_size=_EIGHT,
                device_map="cpu",
                enable_torch_compile=False,
            ).quantize()
        yield Made(mode, made.float(), BITS)


_EIGHT = 8
"""Texts that auto-round takes at a time; it wants all batches alike."""


class _Tokenizer:
    """What auto-round asks of a tokenizer where texts are tokens already."""

    pad_token_id = 0
    eos_token_id = None
    padding_side = "right"


def _of_eight(batches: Sequence[Batch]) -> list[Batch]:
    longest = max(batch["input_ids"].shape[1] for batch in batches)
    return [
        {
            name: torch.nn.functional.pad(value, (0, longest - value.shape[1]))[first : first + _EIGHT]
            for name, value in batch.items()
        }
        for batch in batches
        for first in range(0, len(batch["input_ids"]), _EIGHT)
    ]


PEERS = (
    torchao("torchao", two_level=True),
    modelopt(),
    compressed_tensors(),
    torchao("torchao single-level", two_level=False),
)

ON_DEMAND = (auto_round(),)
"""What takes long, and a package that is not installed with the others."""
