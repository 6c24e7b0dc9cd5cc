"""Smoothing: input channels are divided by factors that their weights' columns are multiplied by.

Large channels make the block scales that their neighbours get coarse. `x · Wᵀ = (x / s) · (W · s)ᵀ`, with factors
s of each channel:

- `smoothquant` (Xiao et al., arXiv 2211.10438): s = amax(|x|)^alpha / amax(|w|)^(1 - alpha);
- `awq` (Lin et al., arXiv 2306.00978, without its search): s = mean(|x|)^alpha.

Layers that read one tensor get the same factors, so they still share one quantizer. The division is a
multiplication by 1 / s in front of it, which TensorRT computes in the kernel that stands there anyway.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from nvfp4_trt.quantization.select import entering, weight_nk
from nvfp4_trt.quantization.transforms.readers import INPUT_SCALE, SHARED, owned, readers, set_weight_nk
from nvfp4_trt.recipe import SmoothMethod

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nvfp4_trt.loading import Batch
    from nvfp4_trt.quantization.transforms.readers import Readers
    from nvfp4_trt.recipe import Smooth

BUFFERS = (INPUT_SCALE,)
_SMALLEST = 1e-5
"""Of a magnitude: a channel that was always zero is as one that was this."""


def smooth(root: nn.Module, names: Sequence[str], recipe: Smooth, batches: Sequence[Batch]) -> Mapping[str, str]:
    """Smooth layers of a module in place, and return why others were left.

    Args: and raises: see `transforms.transform`.
    """
    mine = dict(owned(root, names))
    for group in readers(root, list(mine), batches, torch.zeros_like):
        modules = [mine[name] for name in group.names]
        factors = _factors(group, [weight_nk(module) for module in modules], recipe)
        for module in modules:
            weight = weight_nk(module).detach()
            set_weight_nk(module, weight.float() * factors)
            module.register_buffer(INPUT_SCALE, (1 / factors).to(weight.dtype))
            module.register_forward_pre_hook(_scale_input, with_kwargs=True)
    return {name: f"not smoothed: {SHARED}" for name in names if name not in mine}


def _factors(group: Readers, weights: Sequence[Tensor], recipe: Smooth) -> Tensor:
    """Return s, fp32 `[K]`, of geometric mean 1."""
    if recipe.method is SmoothMethod.AWQ:
        factors = (group.magnitudes / group.rows).clamp(min=_SMALLEST) ** recipe.alpha
    else:
        columns = torch.stack([weight.detach().float().abs().amax(dim=0) for weight in weights]).amax(dim=0)
        inputs = group.amax.clamp(min=_SMALLEST) ** recipe.alpha
        factors = inputs / columns.clamp(min=_SMALLEST) ** (1 - recipe.alpha)
    return factors / factors.log().mean().exp()


def _scale_input(
    module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]
) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    x = entering(args, kwargs)
    return (x * module.get_buffer(INPUT_SCALE).to(x.dtype),), {}
