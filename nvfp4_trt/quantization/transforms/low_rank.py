"""A low-rank branch beside the FP4 GEMM: `y = Q(x) · Ŵᵀ + (x · downᵀ) · upᵀ`, Ŵ being W - up · down in FP4.

The branch reads x as it is, in the model's own dtype, and takes from the FP4 GEMM what would err most (as in
SVDQuant, arXiv 2411.05007). What a column of the weight adds to the error grows with the error of its input, so
the singular value decomposition is that of the weight with its columns multiplied by the deviation of Q(x) - x;
of x, where activations are not quantized.

Layers that read one tensor share `down`: x · downᵀ is computed once for all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own habit)

from nvfp4_trt.quantization.modules import ActivationQuantizer
from nvfp4_trt.quantization.select import entering, weight_nk
from nvfp4_trt.quantization.transforms.readers import SHARED, owned, readers, set_weight_nk
from nvfp4_trt.recipe import ActivationScaling

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nvfp4_trt.loading import Batch

BUFFERS = ("low_rank_down", "low_rank_up")


def split_off(
    root: nn.Module, names: Sequence[str], rank: int, scaling: ActivationScaling, batches: Sequence[Batch]
) -> Mapping[str, str]:
    """Split a branch of a rank off layers of a module, in place, and return why others were left.

    Args:
        root: as for `transforms.transform`.
        names: as there.
        rank: of each branch; a layer of which it is more than a quarter of N or K keeps its weight whole.
        scaling: how activations will be quantized.
        batches: as there.

    Raises: see `transforms.transform`.
    """
    mine = {name: module for name, module in owned(root, names) if 4 * rank <= min(weight_nk(module).shape)}
    for group in readers(root, list(mine), batches, _error_of(scaling)):
        modules = [mine[name] for name in group.names]
        weights = [weight_nk(module).detach() for module in modules]
        deviations = (group.errors / group.rows).sqrt()
        down, up = _branch(torch.cat([weight.float() for weight in weights]), deviations, rank)
        for module, weight, part in zip(modules, weights, torch.split(up, [len(w) for w in weights]), strict=True):
            module.register_buffer("low_rank_down", down.to(weight.dtype))
            module.register_buffer("low_rank_up", part.to(weight.dtype).contiguous())
            set_weight_nk(module, weight.float() - part.to(weight.dtype).float() @ down.to(weight.dtype).float())
            module.register_forward_hook(_add_branch, with_kwargs=True, prepend=True)
    small = f"no low-rank branch: {rank} is more than a quarter of N or K"
    shared = {name for name in names if name not in dict(owned(root, names))}
    return {
        name: f"no low-rank branch: {SHARED}" if name in shared else small for name in names if name not in mine
    }


def _error_of(scaling: ActivationScaling) -> Callable[[Tensor], Tensor]:
    if scaling is ActivationScaling.NONE:
        return lambda rows: rows
    # A static scale is not known yet; a token's own is near.
    near = ActivationScaling.DYNAMIC_TOKEN if scaling is ActivationScaling.STATIC else scaling
    quantizer = ActivationQuantizer(near)
    return lambda rows: quantizer(rows) - rows


def _branch(weight: Tensor, deviations: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return down `[rank, K]` and up `[N, rank]`, fp32, whose product is the weight's largest part.

    The eigenvectors of a Gram matrix are found much faster than the singular vectors of a tall weight.
    """
    columns = (deviations + 1e-6 * deviations.mean() + torch.finfo(torch.float32).tiny).double()
    weighed = weight.double() * columns
    n, k = weighed.shape
    if n < k:
        up = torch.linalg.eigh(weighed @ weighed.t()).eigenvectors[:, -rank:]
        down = up.t() @ weighed
    else:
        down = torch.linalg.eigh(weighed.t() @ weighed).eigenvectors[:, -rank:].t()
        up = weighed @ down.t()
    # Each of the two as large as the other, so that fp16 holds both.
    balance = (up.norm(dim=0) / down.norm(dim=1)).sqrt().clamp(min=torch.finfo(torch.float32).tiny)
    return (down * balance[:, None] / columns).float(), (up / balance).float()


def _add_branch(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor], output: Tensor) -> Tensor:
    x = entering(args, kwargs)
    down, up = (module.get_buffer(name).to(x.dtype) for name in BUFFERS)
    return output + F.linear(F.linear(x, down), up)
